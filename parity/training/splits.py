"""Which images a training learns from, and which it is evaluated on."""

import dataclasses
import hashlib
from collections.abc import Callable

from ...errors import first_names
from ..datasets.dataset import Dataset, DatasetError
from ..datasets.layout import EVALUATED_ON, TRAINED_ON
from ..datasets.layouts import find_layout
from .job import Job

HELD_OUT = "held-out"


def read_splits(job: Job, say: Callable[[str], None]) -> tuple[Dataset, Dataset | None]:
    """The images to train on, and those to evaluate on; None: no evaluation. Says how many are held out.

    Raises DatasetError naming the splits there are where one is missing.
    """
    layout = find_layout(job.data)
    dataset = layout.read(layout.choose(job.split, TRAINED_ON))
    if job.hold_out:
        rest, held = held_out(dataset, job.hold_out)
        say(f"{len(held.images)} of {len(dataset.images)} images are held out, {len(rest.images)} trained on")
        return rest, held
    if job.evaluation_split is None:
        return dataset, None
    if job.evaluation_split:
        return dataset, layout.read(layout.choose(job.evaluation_split, ()))
    chosen = layout.preferred(EVALUATED_ON)
    if chosen is None or (chosen == dataset.split and not job.split):
        raise DatasetError(
            f"{layout.place}: expected a split {', '.join(EVALUATED_ON)} to evaluate on beside {dataset.split}, found "
            f"{first_names(layout.splits)}; name one, evaluate on none, or hold out a share of the images",
            parameters={"eval_split": "none", "hold_out": "0.1"},
        )
    return dataset, layout.read(chosen)


def held_out(dataset: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """(what is left, what is held out): an image by the sha256 of its file's name, so that it stays on its side when
    others are added. Raises DatasetError where one side is empty.
    """
    held = {image.id for image in dataset.images if _place_of(image.path.name) < share}
    if not 0 < len(held) < len(dataset.images):
        raise DatasetError(
            f"{dataset.path}: {share:g} of {len(dataset.images)} images would hold out {len(held)}; give another share",
            parameters={"hold_out": None},
        )
    everything = {image.id for image in dataset.images}
    return _part(dataset, everything - held, dataset.split), _part(dataset, held, HELD_OUT)


def _place_of(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big") / 2**64


def _part(dataset: Dataset, ids: set[int], split: str) -> Dataset:
    kept = [place for place, each in enumerate(dataset.annotations) if each["image_id"] in ids]
    return dataclasses.replace(
        dataset,
        images=tuple(image for image in dataset.images if image.id in ids),
        annotations=tuple(dataset.annotations[place] for place in kept),
        annotation_names=tuple(dataset.annotation_names[place] for place in kept),
        split=split,
    )
