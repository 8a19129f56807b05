"""Plant every fault of tests/helpers/faults.py, and record whether it is found, where, and how it is explained.

    python tools/record_faults.py

Also makes clean runs of several seeds, sizes, thread counts and memory formats, in which nothing may be found. Writes
results/measured/faults.json; exits with status 1 when a fault is missed or misplaced, or a clean run fails. Takes about
twenty minutes on two cores.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from subjects import GOLDEN, MEASURED, REPOSITORY

from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.loading import load
from effconv.parity.comparison.compare import compare, compare_in_turn, precisions
from effconv.parity.comparison.explain import explain
from effconv.parity.comparison.rows import first_failure
from effconv.parity.copying import copied
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import OfficialTrace, official_variables
from effconv.parity.traces.recording import RecordedTrace, record

sys.path.insert(0, str(REPOSITORY / "tests" / "helpers"))
from faults import IMAGE_SIZES, Fault, faults

MODELS = ("tiny-swish", "tiny-sum8")
SEED = 0


def trial(fault: Fault, clean: EfficientDet, trace: RecordedTrace) -> dict[str, Any]:
    """One planted fault: whether it was detected, the layer named first, and the changes that explain it."""
    faulty = copied(clean)
    fault.plant(faulty)
    first = next((row for row in compare_in_turn(trace, precisions(faulty), "local") if not row.ok), None)
    first = first or first_failure(compare(trace, faulty))
    explanations = explain(trace, faulty, clean, first).explanations if first else []
    return {
        "fault": fault.name,
        "planted_in": fault.layer,
        "detected": first is not None,
        "named": first and first.layer.key,
        "reason": first and first.reason,
        "explained_as": [each.change for each in explanations if each.explains],
        "expected_explanation": fault.explained_as,
    }


def clean_runs(name: str) -> list[dict[str, Any]]:
    """Ten runs of an untouched model that differ in everything but the weights."""
    folder = GOLDEN / name
    config = get_config(str(folder / "config.json"))
    variables, source = official_variables(folder, config)
    height, width = IMAGE_SIZES[config.max_level]
    sizes = [(height, width), (width, height), (height + 1, width + 1), (height, height), (2 * height - 1, width + 3)]
    found = []
    for run in range(10):
        torch.set_num_threads(1 + run % 2)
        layout = torch.channels_last if run % 4 > 1 else torch.contiguous_format
        size, scale = sizes[run % len(sizes)], (1.0, 10.0, 0.1)[run % 3]
        images = (noise(100 + run, size) * scale).astype("float32")
        model = load(folder, model=config).to(memory_format=layout)
        rows = compare(OfficialTrace(config, variables, images, source), model)
        first = first_failure(rows)
        found.append(
            {
                "model": name,
                "seed": 100 + run,
                "size": "{}x{}".format(*size),
                "image_scale": scale,
                "torch_threads": torch.get_num_threads(),
                "channels_last": layout is torch.channels_last,
                "layers": len(rows),
                "false_alarm": first and f"{first.layer.key}: {first.reason}",
            }
        )
    torch.set_num_threads(1)
    return found


def main() -> None:
    """Write the record; exit with status 1 when it holds a miss or a false alarm."""
    rows, runs = [], []
    for name in MODELS:
        folder = GOLDEN / name
        config = get_config(str(folder / "config.json"))
        variables, source = official_variables(folder, config)
        clean = load(folder, model=config)
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "trace.npz"
            images = noise(SEED, IMAGE_SIZES[config.max_level])
            record(OfficialTrace(config, variables, images, source), path, with_float64=True)
            for fault in faults(config):
                rows.append({"model": name, **trial(fault, clean, RecordedTrace(path))})
                print(*rows[-1].values(), sep=" | ", flush=True)
        runs += clean_runs(name)
    result = {
        "what": "single planted faults beside the TensorFlow reference; clean runs",
        "command": "python tools/record_faults.py",
        "provenance": provenance() | {"seed": SEED},
        "rows": rows,
        "clean_runs": runs,
    }
    write_record(result, MEASURED / "faults.json")
    missed = [row for row in rows if row["named"] != row["planted_in"]]
    sys.exit(bool(missed) or any(run["false_alarm"] for run in runs))


if __name__ == "__main__":
    main()
