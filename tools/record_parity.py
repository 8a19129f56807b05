"""Prove every measured model layer by layer, and record the worst layer of each comparison.

    python tools/record_parity.py ../shared

Compares the TensorFlow reference and our model with the official code's recorded runs, and our model with the
reference in float32 and float64, locally and accumulated. Writes results/measured/parity.json; exits with status 1 when
a layer differs. Takes about ten minutes on two cores.
"""

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from subjects import MEASURED, Subject, subjects

from effconv.loading import load
from effconv.parity.comparison.compare import compare, compare_traces
from effconv.parity.comparison.measured_records import (
    CheckSummary,
    ComparisonSummary,
    ProvenModel,
    ProvenModels,
    StageBudget,
)
from effconv.parity.comparison.rows import Row
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record
from effconv.parity.traces.golden import Golden, GoldenTrace
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import OfficialTrace, official_variables
from effconv.parity.traces.trace import Kind

SEED = 0
# Stages of the network by our layers' names: what kind of operation a layer is, and how far along it lies.
OPERATIONS = {
    "squeeze-excite: mean": r"squeeze_excite\.mean$",
    "squeeze-excite: first convolution": r"squeeze_excite\.reduce$",
    "squeeze-excite: second convolution": r"squeeze_excite\.expand$",
    "stem and 1x1 convolutions": r"stem\.conv|\.(conv|expand|project|pointwise)(\[\d+\])?$|\.predict\[\d+\]$",
    "depthwise convolutions": r"\.depthwise(\[\d+\])?$",
    "batch norm and activation": r"stem\.norm|\.(expand_norm|depthwise_norm|norms\.\d+\.\d+)$",
    "batch norm": r"\.(project_norm|norm)$",
    "squeeze-excite: gating": r"squeeze_excite$",
    "identity skip": r"blocks\.\d+$",
    "max-pool and nearest neighbour": r"(resamples|extra_levels)\.\d+$",
    "fusion": r"\.fuse$",
    "activation before a node's convolution": r"\.activation$",
}
ALONG = {
    "stem": r"^backbone\.stem",
    "backbone blocks": r"^backbone\.blocks",
    "levels from P6 up": r"^bifpn\.extra_levels",
    **{f"BiFPN cell {cell}": rf"^bifpn\.cells\.{cell}\." for cell in range(8)},
    "class head, hidden": r"^class_head\.(convs|norms|predict\.)",
    "class logits": r"^class_head\.predict\[",
    "box head, hidden": r"^box_head\.(convs|norms|predict\.)",
    "box codes": r"^box_head\.predict\[",
}


def prove(subject: Subject) -> ProvenModel:
    """One row of the record: every comparison of one model at one size."""
    config = subject.config
    variables, source = official_variables(subject.checkpoint, config)
    model = load(subject.checkpoint, model=config)
    comparisons: dict[str, list[Row]] = {}
    if subject.record:
        recorded = GoldenTrace(Golden(subject.record), config, subject.record)
        reference = OfficialTrace(config, variables, recorded.images, source)
        comparisons["reference beside recorded"] = list(compare_traces(recorded, reference, model))
        comparisons["candidate beside recorded"] = compare(recorded, model)
    images = noise(SEED, subject.size)
    comparisons["candidate beside reference"] = compare(OfficialTrace(config, variables, images, source), model)
    return ProvenModel(
        model=config.name,
        size="{}x{}".format(*subject.size),
        checkpoint_fingerprint=source["checkpoint_fingerprint"],
        weights=source["weights"],
        comparisons={name: summary(rows) for name, rows in comparisons.items()},
        rounding_by_operation=budget(comparisons["candidate beside reference"], OPERATIONS, "local"),
        rounding_along_the_network=budget(comparisons["candidate beside reference"], ALONG, "accumulated"),
    )


def budget(rows: Sequence[Row], stages: dict[str, str], kind: Kind) -> tuple[StageBudget, ...]:
    """Per stage: how many layers, and the largest noise of each side, float32 error and float64 error among them.

    A stage takes the layers whose key its pattern finds and no earlier pattern did.
    """
    found, left = [], list(rows)
    for stage, pattern in stages.items():
        members = [row for row in left if re.search(pattern, row.layer.key)]
        left = [row for row in left if not re.search(pattern, row.layer.key)]
        if members:
            single = [row.checks[f"float32 {kind}"] for row in members]
            found.append(
                StageBudget(
                    stage=stage,
                    layers=len(members),
                    candidate_noise=max(check.noise.candidate for check in single),
                    reference_noise=max(check.noise.reference for check in single),
                    float32_error=max(check.difference.error for check in single),
                    float64_error=max(row.checks[f"float64 {kind}"].difference.error for row in members),
                )
            )
    assert not left, f"layers of no stage: {[row.layer.key for row in left]}"
    return tuple(found)


def summary(rows: Sequence[Row]) -> ComparisonSummary:
    """How many layers hold, and per kind of check the layer with the largest error and the one nearest its limit."""
    found: dict[str, CheckSummary] = {}
    for name in dict.fromkeys(name for row in rows for name in row.checks):
        checked = [(row.layer.key, row.checks[name]) for row in rows if name in row.checks]
        worst, check = max(checked, key=lambda pair: pair[1].difference.error)
        noises = [check.noise for _, check in checked if check.noise]
        shares = (
            check.difference.error / check.limit if check.times_bound is None else check.times_bound
            for _, check in checked
            if check.limit
        )
        nearest = max(shares)
        found[name] = CheckSummary(
            worst_error=check.difference.error,
            worst_layer=worst,
            limit_there=check.limit,
            largest_error_over_limit=nearest,
            bit_identical_layers=sum(check.difference.error == 0 for _, check in checked),
            largest_candidate_noise=max((noise.candidate for noise in noises), default=None),
            largest_reference_noise=max((noise.reference for noise in noises), default=None),
            reference_noise_estimated=any(noise.estimated for noise in noises),
        )
    return ComparisonSummary(layers=len(rows), layers_that_hold=sum(row.ok for row in rows), checks=found)


def main(shared: str) -> None:
    """Write the record; exit with status 1 when a layer differs."""
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for subject in subjects(Path(shared), Path(folder)):
            rows.append(prove(subject))
            print(rows[-1].model, rows[-1].size, rows[-1].comparisons.keys(), flush=True)
    result = ProvenModels(
        what="largest relative difference per layer, max|a-b|/max|b|: TensorFlow reference, effconv, recorded runs",
        command="python tools/record_parity.py ../shared",
        image_count="1 of noise; recorded runs: a photograph and noise",
        provenance=provenance() | {"torch_threads": torch.get_num_threads(), "seed": SEED},
        rows=tuple(rows),
    )
    write_record(result.plain(), MEASURED / "parity.json")
    compared = [comparison for row in rows for comparison in row.comparisons.values()]
    sys.exit(any(each.layers != each.layers_that_hold for each in compared))


if __name__ == "__main__":
    main(*sys.argv[1:])
