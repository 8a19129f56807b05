"""Plant every known wrong result against the verdict that must refuse it, and record whether it does.

    python tools/record_verdicts.py

Each row names a verdict, a wrong result and the tests that make that wrong result and assert that it is refused. They
are run here, one pytest for all. Writes results/measured/verdicts.json; exits with status 1 when one is not refused.
Takes about fifteen minutes.
"""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from subjects import MEASURED, REPOSITORY

from effconv.parity.provenance import provenance
from effconv.parity.report import write_record

# (verdict, wrong result, file of tests, name of the test)
PLANTS = (
    ("parity: layers", "5x5 kernels times 1.5, zero, in bfloat16, TF32, float16", "float32_verdicts", "test_parity"),
    (
        "parity: layers",
        "17 faults of float32 alone in one layer",
        "limits",
        "test_a_fault_in_float32_alone_is_refused_where_it_is",
    ),
    (
        "parity: layers",
        "a reference whose own float32 is off",
        "limits",
        "test_local_limits_are_bounds_and_never_a_side_s_own_error",
    ),
    (
        "parity: layers",
        "a layer's last bit, where IEEE 754 fixes it",
        "limits",
        "test_exact_layers_are_compared_bit_for_bit_locally",
    ),
    (
        "parity: layers",
        "noise that a recording declares",
        "limits",
        "test_whole_runs_are_limited_by_what_rounding_every_layer_once_costs",
    ),
    (
        "parity: layers, float32 reference",
        "bfloat16 inputs of one convolution",
        "limits",
        "test_a_reference_in_float32_alone_still_limits_the_candidate",
    ),
    (
        "parity: tensors",
        "random values in taps that no input reaches",
        "weights_by_name",
        "test_random_values_in_taps_no_input_reaches_are_refused",
    ),
    (
        "parity: tensors",
        "colours swapped, on a grey picture",
        "weights_by_name",
        "test_colours_swapped_hold_on_a_grey_picture_and_are_refused_by_name",
    ),
    (
        "parity: tensors",
        "a value, a shape, a missing or an extra tensor",
        "weights_by_name",
        "test_every_way_a_tensor_differs_is_named",
    ),
    (
        "parity: reading",
        "a reader that returns a neighbour's tensor",
        "reference_reading",
        "test_a_reader_that_returns_a_neighbours_tensor_is_found",
    ),
    (
        "parity: reading",
        "raw weights called moving averages",
        "reference_reading",
        "test_raw_weights_called_averages_are_found",
    ),
    (
        "parity: recorded trace",
        "a header that lists one layer",
        "recording_complete",
        "test_a_header_of_one_key_hides_nothing",
    ),
    (
        "parity --reference torch",
        "two runs of effconv called a proof",
        "verdict",
        "test_two_runs_of_effconv_are_no_proof_and_say_so",
    ),
    (
        "parity --backward",
        "a backward pass in bfloat16, TF32, zero, times 1.5",
        "backward",
        "test_a_backward_fault_of_float32_alone_is_refused",
    ),
    ("parity --end-to-end", "zero and TF32 kernels", "float32_verdicts", "test_parity_end_to_end"),
    (
        "parity --end-to-end",
        "one layer in TF32 or float16, all kernels zero",
        "end_to_end",
        "test_a_fault_of_float32_alone_is_named_at_its_layer",
    ),
    (
        "parity --end-to-end",
        "scores 10 % too small, of half precision, a millionth off",
        "end_to_end",
        "test_scores_are_those_users_get",
    ),
    (
        "parity --end-to-end",
        "scores of matched objects 0.05 apart",
        "end_to_end",
        "test_matched_scores_belong_to_the_verdict",
    ),
    (
        "parity --end-to-end",
        "no detection matched, explained as rounding",
        "end_to_end",
        "test_a_run_without_any_match_cannot_hold",
    ),
    (
        "parity --end-to-end",
        "more objects lost than rounding moves",
        "end_to_end",
        "test_more_than_rounding_moves_is_not_explained",
    ),
    (
        "parity --end-to-end",
        "a candidate of zeros, the checkpoint tested instead",
        "end_to_end",
        "test_other_weights_than_the_checkpoint_s_are_what_is_tested",
    ),
    ("parity --engine", "zero and TF32 kernels", "float32_verdicts", "test_parity_of_an_engine"),
    (
        "parity --engine",
        "a fast path in TF32, for odd maps only",
        "engines",
        "test_a_fast_path_that_is_wrong_in_float32_is_named",
    ),
    (
        "parity --engine",
        "images of a batch of 8 exchanged",
        "engines",
        "test_an_engine_wrong_for_one_batch_size_is_found",
    ),
    (
        "parity --engine",
        "a candidate of zeros, the checkpoint tested instead",
        "engines",
        "test_the_candidate_given_is_what_is_tested",
    ),
    ("parity: options", "an option dropped in silence", "parity_modes", "test_every_option_is_used_or_refused"),
    (
        "parity --coco",
        "the right AP beside eleven metrics times 0.8",
        "records",
        "test_the_right_ap_beside_eleven_wrong_metrics_is_not_reproduced",
    ),
    (
        "parity --coco",
        "other annotations under the split's name",
        "published",
        "test_other_annotations_under_the_same_name_prove_nothing",
    ),
    (
        "parity --coco",
        "bfloat16 beside a row that states no precision",
        "published",
        "test_a_lower_precision_does_not_reproduce_a_row_that_states_none",
    ),
    ("demo", "5x5 kernels in float16", "float32_verdicts", "test_demo"),
    ("demo", "one written value changed", "demo", "test_a_wrong_written_value_is_found"),
    ("demo", "pictures with one other pixel", "demo", "test_pictures_with_one_other_pixel_prove_nothing"),
    ("demo", "another batch norm", "demo", "test_another_batch_norm_is_found"),
    ("verify: layers", "5x5 kernels of zeros", "float32_verdicts", "test_verify"),
    (
        "ablate",
        "two exchangeable detectors called better or worse",
        "significance",
        "test_two_detectors_that_differ_by_chance",
    ),
    ("ablate --cache", "pictures changed in place", "contents", "test_outputs_are_of_the_pictures_as_they_are"),
    ("ablate --cache", "other code", "contents", "test_outputs_are_of_the_code_as_it_is"),
    (
        "ablate --waterfall",
        "shares that do not add up",
        "waterfall",
        "test_parts_add_up_and_do_not_depend_on_the_order",
    ),
    (
        "eval --resume",
        "pictures changed in place",
        "contents",
        "test_an_evaluation_goes_on_with_the_pictures_as_they_are",
    ),
    ("eval --resume", "other code", "contents", "test_an_evaluation_by_other_code_is_refused"),
    ("eval --resume", "another configuration", "contents", "test_an_evaluation_of_another_configuration_is_refused"),
    (
        "tf2torch",
        "averages that training can hardly have left",
        "plausibility",
        "test_what_training_does_not_leave_is_named",
    ),
    ("identify", "one bit of one tensor", "planted_damage", "test_a_bit_of_one_tensor"),
    ("identify", "a shard of another checkpoint", "planted_damage", "test_a_shard_of_another_checkpoint"),
    ("identify", "two shards exchanged", "planted_damage", "test_two_shards_exchanged"),
    (
        "bench inference",
        "zeros, half a batch, bfloat16, a smaller image, other weights",
        "equal_work",
        "test_bench_inference_refuses",
    ),
    (
        "bench predict",
        "detections dropped, zeros, images skipped, a smaller image",
        "equal_work",
        "test_bench_predict_refuses",
    ),
    (
        "bench predict",
        "a peer of other weights, a smaller image, fewer detections",
        "equal_work",
        "test_a_peer_of_bench_predict_is_refused",
    ),
    (
        "bench input",
        "zeros, one unit of one value, half an image, colours exchanged",
        "equal_work_tensorflow",
        "test_bench_input_refuses",
    ),
    (
        "bench nms",
        "half of the candidates, classes mixed, nothing suppressed",
        "equal_work_tensorflow",
        "test_bench_nms_refuses",
    ),
    (
        "bench nms",
        "a torchvision that does less",
        "equal_work_tensorflow",
        "test_a_torchvision_that_does_less_is_refused",
    ),
    (
        "bench eval",
        "zeros, detections dropped, other weights, a smaller image",
        "equal_work_tensorflow",
        "test_bench_eval_refuses",
    ),
    ("bench coco", "one engine's recall changed", "contests", "test_bench_coco_fails_when_engines_differ"),
    (
        "train: ten steps, float32",
        "class loss or gradients in half precision, averages in bfloat16",
        "training_steps",
        "test_a_fault_of_float32_alone_is_refused",
    ),
    ("train: steps, float64", "seven mistakes of a step", "training_steps", "test_a_mistake_in_the_step_shows"),
    ("train: losses", "twelve mistakes of the losses", "loss_mistakes", "test_a_mistake_of_the_losses_is_refused"),
    ("train", "other settings than the official ones", "training_settings", "test_the_defaults_are_official"),
)


def main() -> None:
    """Write the record; exit with status 1 when a wrong result is not refused."""
    nodes = list(dict.fromkeys(f"tests/test_{file}.py::{test}" for _, _, file, test in PLANTS))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "--dist",
            "loadfile",
            f"--junitxml={report}",
            *nodes,
        ]
        subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        cases = list(ElementTree.parse(report).iter("testcase"))
    rows: list[dict[str, Any]] = []
    for verdict, wrong, file, test in PLANTS:
        found = [
            case
            for case in cases
            if case.get("classname", "").endswith(f"test_{file}") and case.get("name", "").partition("[")[0] == test
        ]
        refused = sum(case.find("failure") is None and case.find("error") is None for case in found)
        skipped = sum(case.find("skipped") is not None for case in found)
        rows.append(
            {
                "verdict": verdict,
                "wrong_result": wrong,
                "test": f"tests/test_{file}.py::{test}",
                "planted": len(found),
                "refused": refused - skipped,
            }
        )
    result = {
        "what": "wrong results planted against every verdict, and how many were refused",
        "command": "python tools/record_verdicts.py",
        "provenance": provenance(),
        "rows": rows,
    }
    write_record(result, MEASURED / "verdicts.json")
    missed = [row for row in rows if not row["planted"] == row["refused"] > 0]
    print(*missed, sep="\n")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
