"""The tiny models, loaded, and any model compared with a recorded run of the official code."""

from pathlib import Path

import effconv
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison.compare import compare
from effconv.parity.comparison.rows import Row
from effconv.parity.traces.golden import Golden, GoldenTrace


def load_tiny(folder: Path, **options: str) -> EfficientDet:
    return effconv.load(folder, model=str(folder / "config.json"), **options)


def compare_with_golden(model: EfficientDet, record: Path) -> list[Row]:
    """The rows of layers that are in the record; at the others only the model's own float32 is looked at."""
    rows = compare(GoldenTrace(Golden(record), model.config, record), model)
    assert all(row.soundness["candidate"].ok for row in rows)
    return [row for row in rows if row.checks or row.faults]
