"""Small batches to train on, made up: the same for the same number."""

from pathlib import Path

import torch
from torch import Tensor

from effconv.effdet_torch.config import Config, get_config
from effconv.effdet_torch.postprocessing.anchors import official_anchors
from effconv.effdet_torch.training.schedule import Schedule, official_schedule
from effconv.effdet_torch.training.start import random_model
from effconv.effdet_torch.training.targets import Targets, batch_targets, label_anchors
from effconv.effdet_torch.training.trainer import StepRecord, Training, TrainingSettings

TINY = get_config(str(Path(__file__).parent.parent / "golden" / "tiny-swish" / "config.json"))
SCHEDULE: Schedule = official_schedule(batch=8, steps_per_epoch=3, epochs=4)
BATCH = 4
OFFICIAL = TrainingSettings()


def made_up_batch(number: int, config: Config = TINY, images: int = BATCH) -> tuple[Tensor, list[Targets]]:
    """(images (B, 3, H, W), targets of each) of noise with three boxes each."""
    random = torch.Generator().manual_seed(number)
    anchors = official_anchors(config)
    pixels = torch.randn(images, 3, *config.image_size, generator=random)
    targets = []
    for _ in range(images):
        corner = torch.rand(3, 2, generator=random) * 80
        boxes = torch.cat([corner, corner + 20 + torch.rand(3, 2, generator=random) * 50], 1)
        targets.append(label_anchors(boxes, torch.randint(0, config.num_classes, (3,), generator=random), anchors))
    return pixels, targets


def training(settings: TrainingSettings = OFFICIAL, seed: int = 0, processes: int = 1) -> Training:
    """The tiny model with random values, about to be trained."""
    return Training(random_model(TINY, seed), SCHEDULE, settings, processes)


def steps(given: Training, first: int, last: int) -> list[StepRecord]:
    """Records of the steps from `first` to before `last`, each on a batch of its own."""
    records = []
    for number in range(first, last):
        images, targets = made_up_batch(number)
        records.append(given.step(images, batch_targets(targets)))
    return records
