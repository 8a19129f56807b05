"""What is wrong with a dataset that can be used all the same: found when it is read, said, recorded, or refused.

Nothing is mended. True boxes without area or beyond their image are measured on and trained on as they are, as COCO's
own code and the official training do; pixels are the file's, whatever size the annotations state.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...effdet_torch.preprocessing.header import UPRIGHT, read_header
from ...errors import NAMES_SHOWN, first_names
from .dataset import Dataset, DatasetError, Image

# Pixels beyond an image. Boxes whose corners are counted from 1, or to the end of their last pixel, reach as far and
# mean no other place; and COCO's are rounded. A box on another image's scale reaches further.
TOLERANCE = 1.0

# What is wrong, and what is done about it.
CONSEQUENCES = {
    "boxes without area": "used as they are",
    "boxes beyond their image": "used as they are",
    "annotation ids given twice": "each counts",
    "images of another size than annotated": "the file's size is used",
    "no annotation at all": "there is nothing to measure on or to learn from",
}


class DatasetWarning(UserWarning):
    """A dataset in which something is wrong, or whose files have something that is ignored."""


@dataclass(frozen=True)
class Examination:
    """What was found. `faults` are names of annotations or images by what is wrong, in the words of CONSEQUENCES."""

    dataset: Dataset
    faults: Mapping[str, Sequence[str]]
    turned: Sequence[str]  # names of files with an EXIF orientation, which is ignored

    def require_no_fault(self) -> None:
        """Raises DatasetError naming the faults; its `lists` have them whole."""
        if self.faults:
            found = "; ".join(_found(what, names) for what, names in self.faults.items())
            error = DatasetError(f"{self.dataset.path}: {found}; mend the annotations")
            error.lists = {what: tuple(names) for what, names in self.faults.items()}
            raise error

    def warn(self) -> None:
        """A DatasetWarning for each kind of fault, and one for the files with an orientation."""
        lines = [
            f"{self.dataset.path}: {_found(what, names)}; {CONSEQUENCES[what]}" for what, names in self.faults.items()
        ]
        for line in lines + turned_lines(self.turned):
            warnings.warn(line, DatasetWarning, stacklevel=2)

    def record(self) -> dict[str, Any]:
        """Plain values: a count and the first names of each."""
        named = {**self.faults, **({"EXIF orientations ignored": self.turned} if self.turned else {})}
        return {what: {"count": len(names), "first": list(names[:NAMES_SHOWN])} for what, names in named.items()}


def examine(dataset: Dataset, images: Sequence[Image]) -> Examination:
    """Look at all annotations, and at the header of each file of `images`. Files that cannot be read are passed over:
    whoever decodes them says so."""
    sizes = {image.id: (image.width, image.height) for image in dataset.images}
    faults: dict[str, list[str]] = {what: [] for what in CONSEQUENCES}
    for name, annotation in zip(dataset.annotation_names, dataset.annotations, strict=True):
        x, y, width, height = annotation["bbox"]
        of_image = sizes[annotation["image_id"]]
        if width <= 0 or height <= 0:
            faults["boxes without area"].append(name)
        elif max(-x, -y, x + width - of_image[0], y + height - of_image[1]) > TOLERANCE:
            faults["boxes beyond their image"].append(name)
    times = Counter(dataset.annotation_names)
    faults["annotation ids given twice"] = [name for name, count in times.items() if count > 1]
    if not dataset.annotations:
        faults["no annotation at all"].append(dataset.path.name)
    turned = []
    for image in images:
        header = read_header(image.path)
        if header and (header.height, header.width) != (image.height, image.width):
            faults["images of another size than annotated"].append(image.path.name)
        if header and header.orientation != UPRIGHT:
            turned.append(image.path.name)
    return Examination(dataset, {what: names for what, names in faults.items() if names}, turned)


def turned_lines(names: Sequence[str]) -> list[str]:
    """What is to be said of files with an EXIF orientation; nothing where there are none."""
    if not names:
        return []
    return [
        f"{names[0]}: its EXIF orientation is ignored, as TensorFlow ignores it: boxes refer to the pixels as they are "
        f"stored ({len(names)} such {'file' if len(names) == 1 else 'files'})"
    ]


def _found(what: str, names: Sequence[str]) -> str:
    return f"{what}: {len(names)} ({first_names(names)})"
