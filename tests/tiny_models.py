"""The tiny models, loaded and compared with their recorded activations."""

from pathlib import Path

import effconv
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.compare import Row, compare_with_golden
from effconv.parity.golden import Golden
from effconv.parity.limits import golden_limit


def load_tiny(folder: Path, **options: str) -> EfficientDet:
    return effconv.load(folder, model=str(folder / "config.json"), **options)


def compare(model: EfficientDet, record: Path) -> list[Row]:
    return compare_with_golden(model, Golden(record), golden_limit(model.config.name))
