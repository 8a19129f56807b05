"""A dataset in memory: images and their true boxes, in COCO's terms whatever files they were read from.

`layouts.py` finds and reads one; `examination.py` says what may be wrong with it and pass all the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import EffconvError

DEFAULT_SPLIT = "val2017"
ANNOTATION_PREFIX = "instances_"
LARGEST = 1e150  # of a coordinate: an area stays finite


class DatasetError(EffconvError):
    """A dataset that is missing, damaged or contradicts itself."""


class Image(NamedTuple):
    """One image: its id, where its file should be, and its size in pixels as the annotations give it."""

    id: int
    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class Dataset:
    """Images in the order of the annotation file, category names by id, and true boxes.

    `annotations` are COCO's: image_id, category_id, bbox (x, y, width, height in pixels), area, iscrowd, and an id that
    counts from 1, because the official metrics take an annotation of id 0 for none.
    """

    path: Path  # the annotation file, or the file or folder that names all of them
    images: tuple[Image, ...]
    categories: Mapping[int, str]
    annotations: tuple[Mapping[str, Any], ...]
    sha256: str  # of the annotation file, or of all of them
    annotation_names: tuple[str, ...] = ()  # their own ids, as text, in the same order; for messages
    split: str = ""  # its name, e.g. val2017

    @property
    def content(self) -> str:
        """What the annotation file holds, whatever its name: counts, and the start of its sha256."""
        boxes, categories, images = len(self.annotations), len(self.categories), len(self.images)
        return f"{boxes} boxes of {categories} categories on {images} images (sha256 {self.sha256[:16]})"

    def coco(self, images: Iterable[Image]) -> dict[str, Any]:
        """These images and their annotations as COCO's own structure."""
        chosen = [{"id": image.id, "height": image.height, "width": image.width} for image in images]
        ids = {image["id"] for image in chosen}
        return {
            "images": chosen,
            "categories": [{"id": number, "name": name} for number, name in self.categories.items()],
            # Copies, because the metrics add fields of their own.
            "annotations": [dict(each) for each in self.annotations if each["image_id"] in ids],
        }
