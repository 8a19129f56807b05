"""What each part of the recipe of `effconv finetune` is worth: from the shipped detector to three new shapes.

    python tools/record_finetune.py FOLDER

FOLDER keeps the pictures and what each training came to, so that a run that was cut off is gone on with. Writes
results/measured/finetune.json. Takes about 20 minutes on one processor.
"""

import dataclasses
import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from subjects import MEASURED

from effconv.effdet_torch.training.augment import Augmentation
from effconv.effdet_torch.training.trainer import TrainingSettings
from effconv.parity.datasets import shapes
from effconv.parity.datasets.shapes import Points, write_shapes
from effconv.parity.embedded import CONFIG, FOLDER
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record
from effconv.parity.training.finetuning import finetuning
from effconv.parity.training.finetuning_record import RECIPE, FinetuningRecord, FinetuningRun
from effconv.parity.training.job import Job
from effconv.parity.training.train import train

TRAINED_ON, EVALUATED_ON = 200, 200
OFFICIAL = TrainingSettings()
Change = Callable[[Job], Job]


def heart() -> Points:
    """Around the origin, in the unit circle."""
    angles = [2 * math.pi * step / 60 for step in range(60)]
    return [
        (
            16 * math.sin(a) ** 3 / 17,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 17,
        )
        for a in angles
    ]


def moon() -> list[Points]:
    """A disc, less another."""
    disc = [(math.cos(2 * math.pi * step / 40), math.sin(2 * math.pi * step / 40)) for step in range(40)]
    return [disc, [(0.85 * x + 0.45, 0.85 * y) for x, y in disc]]


TEE = [(-0.9, -0.9), (0.9, -0.9), (0.9, -0.35), (0.3, -0.35), (0.3, 0.95), (-0.3, 0.95), (-0.3, -0.35), (-0.9, -0.35)]
NEW = {"heart": [heart()], "tee": [TEE], "moon": moon()}  # none of the detector's shapes


def settings(**changed: object) -> Change:
    """A job with other training settings."""
    return lambda job: dataclasses.replace(job, settings=dataclasses.replace(job.settings, **changed))  # type: ignore[arg-type]


def official(job: Job) -> Job:
    """All that the recipe does otherwise, as `effconv train` does it, for as many steps."""
    return dataclasses.replace(
        job,
        rate=Job.rate,
        schedule=Job.schedule,
        average_span=None,
        augmentation=Augmentation(),
        settings=TrainingSettings(seed=job.settings.seed),
    )


def from_nothing(job: Job) -> Job:
    """Random weights, whose batch norms have seen nothing yet."""
    return settings(frozen_norms=False)(dataclasses.replace(job, init=None))


ONE, SEVERAL = (0,), (0, 1, 2)
RECIPES: dict[str, tuple[tuple[int, ...], Change]] = {
    RECIPE: (SEVERAL, lambda job: job),
    "with every setting of `effconv train`": (SEVERAL, official),
    "from nothing": (SEVERAL, from_nothing),
    "with the official learning rate, 0.08": (ONE, lambda job: dataclasses.replace(job, rate=Job.rate)),
    "with the official cosine": (ONE, lambda job: dataclasses.replace(job, schedule=Job.schedule)),
    "with the official moving averages, 0.9998": (ONE, lambda job: dataclasses.replace(job, average_span=None)),
    "with batch norms trained": (ONE, settings(frozen_norms=False)),
    "with the official resizing, 0.1 to 2": (ONE, lambda job: dataclasses.replace(job, augmentation=Augmentation())),
}


def draw(folder: Path) -> Path:
    """The pictures, in COCO's layout."""
    categories = dict(enumerate(NEW, start=1))
    with patch.dict(shapes.OUTLINES, NEW, clear=True), patch.dict(shapes.CATEGORIES, categories, clear=True):
        for split, images, seed in (("train2017", TRAINED_ON, 11), ("val2017", EVALUATED_ON, 12)):
            write_shapes(folder, split, images, seed, (160, 160))
    return folder


def trained(folder: Path, data: Path, recipe: str, seed: int) -> FinetuningRun:
    """One training, or what an earlier one came to."""
    name = f"{list(RECIPES).index(recipe)}-{seed}"
    kept = folder / f"{name}.json"
    if not kept.exists():
        shutil.rmtree(folder / name, ignore_errors=True)  # of one that was cut off: its time would be of a part
        job = finetuning(
            data=data,
            model=str(CONFIG),
            init=FOLDER,
            out=folder / name,
            num_classes=len(NEW),
            seed=seed,
            evaluate_every=20,
            workers=0,
        )
        began = time.monotonic()
        found = train(RECIPES[recipe][1](job), "tools/record_finetune.py", print)
        assert found is not None
        run = FinetuningRun(
            recipe=recipe,
            seed=seed,
            steps=found["steps"],
            seconds=time.monotonic() - began,
            metrics={name: value for name, value in found["evaluations"][-1].items() if name != "steps"},
        )
        write_record(run.plain(), kept)
    return FinetuningRun.read(json.loads(kept.read_text()))


def main(folder: Path) -> None:
    """Run every recipe with its seeds."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    data = draw(folder / "pictures")
    runs = []
    for recipe, (seeds, _) in RECIPES.items():
        for seed in seeds:
            runs.append(trained(folder, data, recipe, seed))
            print(recipe, seed, runs[-1].metrics["AP"], flush=True)
    record = FinetuningRecord(
        what="fine-tuning on few pictures, beside other recipes",
        command="python tools/record_finetune.py FOLDER",
        classes=tuple(NEW),
        trained_on=TRAINED_ON,
        evaluated_on=EVALUATED_ON,
        runs=tuple(runs),
        provenance={**provenance(), "device": "cpu"},
    )
    write_record(record.plain(), MEASURED / "finetune.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
