"""That a detector can be trained at all: eight pictures, learnt by heart."""

import dataclasses
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from effconv.effdet_torch.config import Config, Stage, get_config
from effconv.effdet_torch.training.schedule import Schedule
from effconv.effdet_torch.training.start import random_model
from effconv.effdet_torch.training.trainer import Training, TrainingSettings
from effconv.parity.datasets.dataset import Dataset
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.shapes import CATEGORIES, Picture, draw_picture
from effconv.parity.distributed import Group
from effconv.parity.evaluation.coco import evaluate, rows_of
from effconv.parity.evaluation.detect import Running, detect
from effconv.parity.evaluation.pipeline import Settings, build
from effconv.parity.training.batches import training_batches
from effconv.parity.training.examples import TrainingSet

IMAGES, SIDE = 8, 64
# Of another size, because a box centred exactly on an anchor has targets of 0, which officially nothing is learnt from.
INPUT = 72
# As shallow as one with five levels can be.
STAGES = (
    *(Stage(1, 3, stride, ratio, given, made) for stride, ratio, given, made in ((1, 1, 8, 8), (2, 2, 8, 12))),
    *(Stage(1, 3, stride, 2, given, made) for stride, given, made in ((2, 12, 16), (2, 16, 24), (1, 24, 24))),
    *(Stage(1, 3, stride, ratio, given, made) for stride, ratio, given, made in ((2, 2, 24, 32), (1, 1, 32, 32))),
)


def can_be_learnt_exactly(picture: Picture) -> bool:
    """Whether it has objects, none of them at the edge (boxes are clipped there), overlapping another, or a crowd."""

    def apart(one: list[float], other: list[float]) -> bool:
        return any(
            one[axis] + one[axis + 2] <= other[axis] or other[axis] + other[axis + 2] <= one[axis] for axis in (0, 1)
        )

    boxes = [drawn.box for drawn in picture.objects]
    inside = all(min(x, y) >= 2 and max(x + width, y + height) <= SIDE - 2 for x, y, width, height in boxes)
    plain = not any(drawn.crowd for drawn in picture.objects)
    return bool(boxes) and inside and plain and all(apart(*pair) for pair in combinations(boxes, 2))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("pictures")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (folder / "val2017").mkdir()
    (folder / "annotations").mkdir()
    for number in range(1000):
        picture = draw_picture(0, number, (SIDE, SIDE))
        if len(images) == IMAGES or not can_be_learnt_exactly(picture):
            continue
        entry = {"id": len(images) + 1, "file_name": f"{number}.png", "height": SIDE, "width": SIDE}
        Image.fromarray(picture.pixels).save(folder / "val2017" / entry["file_name"])
        images.append(entry)
        for drawn in picture.objects:
            area = float(drawn.mask.sum())
            values = {"image_id": entry["id"], "category_id": drawn.category, "bbox": drawn.box, "area": area}
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, **values})
    data = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": n, "name": v} for n, v in CATEGORIES.items()],
    }
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(data))
    return read_dataset(folder)


def train(training: Training, examples: TrainingSet, steps: int) -> Training:
    for images, targets in training_batches(examples, batch_size=IMAGES, epochs=range(steps)):
        training.step(images, targets)
    return training


@pytest.mark.slow
def test_eight_pictures_are_learnt_by_heart(dataset: Dataset, repository: Path) -> None:
    """First as usual; then with norms frozen, whose statistics lag behind by hundreds of steps."""
    shapes = get_config(str(repository / "examples" / "shapes" / "config.json"))
    config: Config = dataclasses.replace(
        shapes, image_size=(INPUT, INPUT), stages=STAGES, fpn_channels=24, fpn_cells=1, head_repeats=1, anchor_scale=1.5
    )
    examples = TrainingSet(dataset, config, augmentation=None, seed=0)
    model = random_model(config, 0)
    for steps, rate, frozen in ((500, 0.08, False), (100, 0.01, True)):
        schedule = Schedule(rate=rate, warmup_rate=rate / 10, warmup_steps=20, total_steps=steps + 20)
        settings = TrainingSettings(average_decay=0.9, weight_decay=0.0, frozen_norms=frozen)
        training = train(Training(model, schedule, settings), examples, steps)
    learnt = training.averaged()
    results = detect(learnt, build(config, Settings()), dataset, dataset.images, Running(batch=8, workers=0), Group())
    metrics = evaluate(dataset, rows_of(results, {}), dataset.images).metrics
    assert metrics["AP"] > 0.95, metrics
