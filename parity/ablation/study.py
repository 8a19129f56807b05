"""What `effconv ablate` changes details of, and the official evaluation it begins with."""

from dataclasses import dataclass, field
from pathlib import Path

from ...convert.apply import plan
from ...convert.sources import open_checkpoint
from ...effdet_torch.engines.engines import DEFAULT_NETWORK_ENGINE
from ...loading import CHECKPOINT_ENDINGS, load
from ..evaluation.pipeline import Settings, build
from ..mistakes.pipeline import Setup
from .bootstrap import RESAMPLES


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is ablated, and how."""

    coco: Path
    model: str | None
    checkpoint: Path
    split: str | None = None
    settings: Settings = field(default_factory=Settings)
    limit: int | None = None
    category_map: Path | None = None
    batch: int = 16
    workers: int = 0
    seed: int = 0
    resamples: int = RESAMPLES
    device: str = "cpu"
    engine: str = DEFAULT_NETWORK_ENGINE  # of `engines.ENGINES`, or `choice.AUTO`; changed networks run eagerly
    cache: Path | None = None  # a folder for inputs and raw outputs; None: one that is removed afterwards
    rows: Path | None = None  # the record whose finished rows are kept beside it; None: nowhere
    resume: bool = False
    strict: bool = False  # refuse a dataset with faults


def official_setup(study: Study) -> Setup:
    """What is ablated: the published weights and the official pipeline, and the raw weights where there are any."""
    model, path = load(study.checkpoint, model=study.model), study.checkpoint
    raw = None
    if path.suffix not in CHECKPOINT_ENDINGS and plan(open_checkpoint(path), model.config, "raw").weights == "raw":
        raw = load(path, model=model.config, weights="raw")
    return Setup(model=model, pipeline=build(model.config, study.settings), raw=raw)
