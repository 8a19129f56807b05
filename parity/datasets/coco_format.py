"""COCO's annotation file, checked entry by entry as it is read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .dataset import LARGEST, Dataset, DatasetError, Image


def read_coco(path: Path, root: Path, split: str) -> Dataset:
    """The dataset whose annotation file is `path` and whose images' names are below `root`; images are not looked at.

    Raises DatasetError naming the file and the entry at fault.
    """
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
    return Dataset(path, found, names, boxes, hashlib.sha256(content).hexdigest(), own_ids, split)


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
