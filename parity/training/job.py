"""A training as it is asked for."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...effdet_torch.config import Config, config_to_dict
from ...effdet_torch.training.augment import Augmentation
from ...effdet_torch.training.schedule import Kind
from ...effdet_torch.training.trainer import TrainingSettings
from ..datasets.layouts import CocoFile
from .run_folder import MAY_CHANGE


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training as it is asked for. `batch` counts the images of one step over all processes."""

    data: Path | CocoFile
    model: str | None  # None: the initial weights' own
    out: Path
    split: str | None = None  # None: the one that is called so
    evaluation_split: str | None = ""  # "": the one that is called so; None: no evaluation
    hold_out: float | None = None  # this share of the images to train on is evaluated on instead
    init: Path | None = None  # trained weights; None: random values
    backbone: Path | None = None  # an EfficientNet's weights for that part of the model
    num_classes: int | None = None  # None: the initial weights', or the model's
    epochs: int = 300
    batch: int = 64
    rate: float = 0.08  # for a batch of 64
    warmup_epochs: float = 1.0
    schedule: Kind = "cosine"
    evaluate_every: int = 1  # epochs
    keep_every: int = 1000  # steps; besides after each epoch
    workers: int = 2
    device: str = "cpu"
    resume: bool = False
    strict: bool = False  # refuse a dataset with faults, and stop at an unreadable image
    average_span: float | None = None  # the moving averages span this share of all steps; None: settings.average_decay
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    settings: TrainingSettings = field(default_factory=TrainingSettings)

    def results_depend_on(self, config: Config, processes: int) -> dict[str, Any]:
        """What must be equal for a training to be gone on with, as plain values."""
        absent = {
            name for name in ("backbone", "hold_out", "average_span") if getattr(self, name) is None
        }  # as in older runs
        no_matter = {"out", "resume", "strict", *MAY_CHANGE, *absent}
        values = {name: value for name, value in dataclasses.asdict(self).items() if name not in no_matter}
        paths = {name: str(value) for name, value in values.items() if isinstance(value, Path | CocoFile)}
        return {**values, **paths, "model": config_to_dict(config), "processes": processes}
