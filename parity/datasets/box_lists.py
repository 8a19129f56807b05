"""What formats with a file per image say of it, put together to a dataset."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .dataset import Dataset, Image

# What is taken for a picture in a folder of them; one that cannot be decoded is named when it is.
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


class Box(NamedTuple):
    """One object: a name for messages, its category, x, y, width and height in pixels, and whether it is ignored."""

    name: str
    category: int
    bbox: tuple[float, float, float, float]
    ignored: bool = False


class Picture(NamedTuple):
    """One image with its size in pixels and its boxes."""

    path: Path
    height: int
    width: int
    boxes: Sequence[Box]


class Contents:
    """The sha256 of files, each with its name, in the order they are read."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, name: str, content: bytes) -> None:
        """Take in one file."""
        self._digest.update(f"{name}\0{len(content)}\0".encode())
        self._digest.update(content)

    @property
    def sha256(self) -> str:
        """Of all so far."""
        return self._digest.hexdigest()


def assemble(
    path: Path, split: str, pictures: Sequence[Picture], categories: Mapping[int, str], contents: Contents
) -> Dataset:
    """The dataset of these pictures; image ids and annotation ids count from 1, in the order given.

    An ignored box is marked as COCO marks a crowd: nothing is learnt from it, and detections there do not count.
    """
    images: list[Image] = []
    annotations: list[dict[str, Any]] = []
    names: list[str] = []
    for number, picture in enumerate(pictures, 1):
        images.append(Image(number, picture.path, picture.height, picture.width))
        for box in picture.boxes:
            entry: dict[str, Any] = {"id": len(annotations) + 1, "image_id": number, "category_id": box.category}
            area = box.bbox[2] * box.bbox[3]
            annotations.append({**entry, "bbox": list(box.bbox), "area": area, "iscrowd": int(box.ignored)})
            names.append(box.name)
    return Dataset(path, tuple(images), categories, tuple(annotations), contents.sha256, tuple(names), split)
