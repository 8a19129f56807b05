"""A COCO-format dataset: images and their true boxes, checked when it is read; see `examination.py` for what may pass.

Layout: FOLDER/annotations/instances_SPLIT.json and FOLDER/SPLIT/*.jpg, as COCO 2017 unpacks.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import EffconvError, first_names

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

    path: Path  # the annotation file
    images: tuple[Image, ...]
    categories: Mapping[int, str]
    annotations: tuple[Mapping[str, Any], ...]
    sha256: str  # of the annotation file
    annotation_names: tuple[str, ...] = ()  # their own ids, as text, in the same order; for messages

    @property
    def split(self) -> str:
        """The split's name, e.g. val2017."""
        return self.path.stem.removeprefix(ANNOTATION_PREFIX)

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


def find_annotations(folder: Path, split: str | None = None) -> Path:
    """The annotation file of a split; without `split` val2017's, or the only one there is.

    Raises DatasetError naming what there is instead.
    """
    files = {file.stem.removeprefix(ANNOTATION_PREFIX): file for file in folder.glob("annotations/instances_*.json")}
    chosen = split or (DEFAULT_SPLIT if DEFAULT_SPLIT in files or len(files) != 1 else next(iter(files)))
    if chosen in files:
        return files[chosen]
    there = first_names(sorted(files)) or ("no annotations" if folder.is_dir() else "no such folder")
    raise DatasetError(
        f"{folder}: expected annotations/{ANNOTATION_PREFIX}{chosen}.json, found {there}; "
        "give a folder as COCO 2017 unpacks, or another split",
        parameters={"split": None},
    )


def read_dataset(folder: Path, split: str | None = None) -> Dataset:
    """The dataset in `folder`. Images are not looked at. Raises DatasetError naming the file and the entry at fault."""
    path = find_annotations(folder, split)
    try:
        content = path.read_bytes()
        data = json.loads(content)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON ({error})") from error
    lists = [data.get(name) if isinstance(data, dict) else None for name in ("images", "annotations", "categories")]
    if not all(isinstance(entries, list) and all(isinstance(each, dict) for each in entries) for entries in lists):
        raise DatasetError(f"{path}: expected COCO's lists images, annotations and categories, of objects")
    root = folder / path.stem.removeprefix(ANNOTATION_PREFIX)
    images, annotations, categories = (entries or [] for entries in lists)
    if not images or not categories:
        raise DatasetError(f"{path}: expected at least one image and one category, found {len(images)} images")
    names = {_integer(each, "id", path, "category"): str(each.get("name", each["id"])) for each in categories}
    found = tuple(_image(each, root, path) for each in images)
    _require_unique([image.id for image in found], "image", path)
    _require_unique([each["id"] for each in categories], "category", path)
    ids = {image.id for image in found}
    boxes = tuple(_annotation(each, place + 1, ids, names, path) for place, each in enumerate(annotations))
    own_ids = tuple(str(each.get("id", f"of place {place}"))[:20] for place, each in enumerate(annotations))
    return Dataset(path, found, names, boxes, hashlib.sha256(content).hexdigest(), own_ids)


def _image(entry: dict[str, Any], root: Path, path: Path) -> Image:
    number = _integer(entry, "id", path, "image")
    name = entry.get("file_name")
    if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise DatasetError(f"{path}: image {number}: expected a file name below {root.name}/, found {name!r}")
    height, width = (_integer(entry, side, path, f"image {number}:") for side in ("height", "width"))
    if min(height, width) < 1:
        raise DatasetError(f"{path}: image {number}: expected a size of at least 1x1, found {height}x{width}")
    return Image(number, root / name, height, width)


def _annotation(
    entry: dict[str, Any], number: int, images: set[int], categories: Mapping[int, str], path: Path
) -> Mapping[str, Any]:
    what = f"annotation {entry.get('id', number)}:"
    image, category = (_integer(entry, field, path, what) for field in ("image_id", "category_id"))
    if image not in images:
        raise DatasetError(f"{path}: {what} image_id {image} is not among the images; annotations of another dataset?")
    if category not in categories:
        raise DatasetError(f"{path}: {what} category_id {category} is not among the categories")
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(value) for value in box):
        raise DatasetError(f"{path}: {what} expected bbox [x, y, width, height] in pixels, found {str(box)[:60]}")
    area = entry.get("area", box[2] * box[3])
    crowd = entry.get("iscrowd", 0)
    if not _is_finite(area) or crowd not in (0, 1):
        raise DatasetError(f"{path}: {what} expected a finite area and iscrowd 0 or 1, found {area!r} and {crowd!r}")
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [float(value) for value in box],
        "area": float(area),
        "iscrowd": int(crowd),
    }


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _integer(entry: dict[str, Any], field: str, path: Path, what: str) -> int:
    value = entry.get(field)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DatasetError(f"{path}: {what} expected a whole number as {field}, found {value!r}")
    return value


def _require_unique(ids: list[int], what: str, path: Path) -> None:
    seen: set[int] = set()
    for number in ids:
        if number in seen:
            raise DatasetError(f"{path}: two entries for {what} {number}")
        seen.add(number)
