"""How small a change of one kernel each comparison still finds, model by model.

    python tools/record_sensitivity.py ../shared

One kernel at a time is multiplied by 1 + d, and the smallest d of a grid that is found is searched by halving. Writes
results/measured/sensitivity.json.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from subjects import MEASURED, Subject, subjects

from effconv.effdet_torch.model import EfficientDet
from effconv.loading import load
from effconv.parity.comparison.explain import first_difference
from effconv.parity.copying import copied
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record
from effconv.parity.traces.golden import Golden, GoldenTrace
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import OfficialTrace, official_variables
from effconv.parity.traces.recording import RecordedTrace, record
from effconv.parity.traces.trace import Trace

SEED = 0
# From one unit in the last place of a float32 weight upwards, two steps a decade.
GRID = [2.0**-23, *(10 ** (exponent / 2) for exponent in range(-13, -1))]
KERNELS = (
    "backbone.stem.conv.weight",
    "backbone.blocks.5.project.weight",
    "class_head.predict.pointwise.weight",
)


def smallest_found(trace: Trace, model: EfficientDet, kernel: str) -> float | None:
    """The smallest d of GRID at which a comparison fails; None when none does. Larger ones are taken to be found."""

    def is_found(scale: float) -> bool:
        perturbed = copied(model)
        with torch.no_grad():
            perturbed.get_parameter(kernel).mul_(1 + scale)
        return first_difference(trace, perturbed) is not None

    low, high = 0, len(GRID)  # GRID[low:high] holds the answer; high is past the end while nothing is found
    while low < high:
        middle = (low + high) // 2
        if is_found(GRID[middle]):
            high = middle
        else:
            low = middle + 1
    return GRID[low] if low < len(GRID) else None


def measure(subject: Subject, folder: Path) -> list[dict[str, Any]]:
    """A row per kind of reference."""
    config = subject.config
    variables, source = official_variables(subject.checkpoint, config)
    live = OfficialTrace(config, variables, noise(SEED, subject.size), source)
    model = load(subject.checkpoint, model=config)
    traces: dict[str, Trace] = {}
    for label, with_float64 in (("float64 and float32", True), ("float32 alone", False)):
        path = folder / f"{config.name}-{with_float64}.npz"
        record(live, path, with_float64=with_float64)
        traces[label] = RecordedTrace(path)
    if subject.record:
        traces["recorded run of the official code"] = GoldenTrace(Golden(subject.record), config, subject.record)
    rows = []
    for label, trace in traces.items():
        found = {kernel: smallest_found(trace, model, kernel) for kernel in KERNELS}
        rows.append(
            {
                "model": config.name,
                "size": "{}x{}".format(*subject.size),
                "reference": label,
                "checkpoint_fingerprint": source["checkpoint_fingerprint"],
                "smallest_found": found,
            }
        )
        print(*rows[-1].values(), sep=" | ", flush=True)
    return rows


def main(shared: str) -> None:
    """Write the record, one size of each model, smallest first, written anew after each model."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in sorted(subjects(Path(shared), Path(folder)), key=lambda each: each.size):
            if subject.size == subject.config.image_size:
                with tempfile.TemporaryDirectory() as traces:
                    rows += measure(subject, Path(traces))
                result = {
                    "what": "smallest relative change of one kernel, weight * (1 + d), that a comparison finds",
                    "command": "python tools/record_sensitivity.py ../shared",
                    "grid": GRID,
                    "provenance": provenance() | {"seed": SEED},
                    "rows": rows,
                }
                write_record(result, MEASURED / "sensitivity.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
