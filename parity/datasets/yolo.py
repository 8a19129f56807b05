"""YOLO: a .yaml that names classes and folders of images, and a text file of boxes for each image.

As Ultralytics' documentation of its detection datasets has it: a row is `class cx cy width height`, shares of the
image's width and height, or `class x1 y1 x2 y2 x3 y3 ...`, an outline, whose box is taken; an image without a file, or
with an empty one, has no objects. The file lies where the image does, with the last folder `images` replaced by
`labels`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...effdet_torch.preprocessing.header import read_header
from ...errors import EffconvError
from .box_lists import PICTURE_ENDINGS, Box, Contents, Picture, assemble
from .dataset import Dataset, DatasetError
from .layout import Layout

YAML_ENDINGS = (".yaml", ".yml")
SPLITS = ("train", "val", "test")  # keys of the .yaml, with `valid`, which some write
# Beyond the edge, as a share of the image: rounding of the digits that are written. Pixels in place of shares are
# further out.
TOLERANCE = 0.01


def yolo_layout(path: Path) -> Layout:
    """The layout that a .yaml describes. Raises DatasetError for one that does not, EffconvError without PyYAML."""
    data = _parsed(path)
    splits = [name for name in (*SPLITS, "valid") if data.get(name)]
    return Layout("YOLO", path, splits, "SPLIT: with a folder of images", partial(_read, path, data))


def _parsed(path: Path) -> Mapping[Any, Any]:
    try:
        import yaml
    except ImportError as error:
        raise EffconvError(f"{path}: reading it needs PyYAML, which is not installed; pip install pyyaml") from error
    try:
        data = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable YAML ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(data, dict) or not any(data.get(name) for name in (*SPLITS, "valid")):
        raise DatasetError(f"{path}: expected train: and val: with folders of images, and names:, of a YOLO dataset")
    return data


def _names(path: Path, data: Mapping[Any, Any]) -> dict[int, str]:
    """The classes' names by number, from 0."""
    names, count = data.get("names"), data.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None and type(count) is int and 0 < count < 100_000:
        names = {number: f"class {number}" for number in range(count)}
    if not isinstance(names, dict) or not names:
        raise DatasetError(f"{path}: expected names: a list, or number: name, found {_shown(names)}")
    strangers = [key for key in names if type(key) is not int or key < 0]
    if strangers:
        raise DatasetError(f"{path}: names: expected whole numbers from 0, found {_shown(strangers[0])}")
    if count is not None and count != len(names):
        raise DatasetError(f"{path}: nc: expected {len(names)}, as many as names, found {_shown(count)}")
    for number, name in names.items():
        if not isinstance(name, str | int | float):
            raise DatasetError(f"{path}: names: expected a name for {number}, found {_shown(name)}")
    return {number: str(names[number]) for number in sorted(names)}


def _shown(value: Any) -> str:
    """A value for a message; of lists and the like what they are: a few lines of YAML can hold billions of entries."""
    return repr(value)[:60] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _read(path: Path, data: Mapping[Any, Any], split: str) -> Dataset:
    """A split. Raises DatasetError naming the file and the line at fault."""
    names, contents = _names(path, data), Contents()
    contents.add(path.name, path.read_bytes())
    images = _images(path, data, split)
    labels = [_labels_of(image) for image in images]
    if not any(file.is_file() for file in labels):
        raise DatasetError(
            f"{path}: {split}: none of {len(images)} images has a file of boxes; expected {labels[0]}, ..."
        )
    pictures = []
    for image, file in zip(images, labels, strict=True):
        height, width = _size(image)
        content = file.read_bytes() if file.is_file() else b""
        contents.add(image.name, content)
        pictures.append(Picture(image, height, width, _boxes(file, content, names, height, width)))
    return assemble(path, split, pictures, names, contents)


def _images(path: Path, data: Mapping[Any, Any], split: str) -> list[Path]:
    """The images of a split, in the order of their names or of their list."""
    places = data[split] if isinstance(data[split], list) else [data[split]]
    images: list[Path] = []
    for place in places:
        if not isinstance(place, str):
            raise DatasetError(f"{path}: {split}: expected a folder or a list of images, found {_shown(place)}")
        found = _place(path, data.get("path"), place)
        if found.is_dir():
            files = (each for each in found.rglob("*") if each.suffix.lower() in PICTURE_ENDINGS)
            images += sorted(each for each in files if not each.name.startswith("."))
        elif found.suffix == ".txt" and found.is_file():
            images += _listed(found)
        else:
            raise DatasetError(f"{path}: {split}: expected a folder or .txt list of images, found no {found}")
    if not images:
        raise DatasetError(f"{path}: {split}: expected images, found none in {', '.join(places)[:200]}")
    return images


def _place(path: Path, stated: Any, place: str) -> Path:
    """Where a folder is: below `path:`, which counts from the .yaml's folder, or below that folder itself.

    `path:` is often that of another machine; and Roboflow writes ../train/images for what lies in train/images.
    """
    bases = [path.parent / stated, path.parent] if isinstance(stated, str) else [path.parent]
    candidates = [base / each for base in bases for each in (place, place.removeprefix("../"))]
    return next((each for each in candidates if each.exists()), candidates[0])


def _listed(file: Path) -> list[Path]:
    images = []
    for line, text in enumerate(_decoded(file, file.read_bytes()), 1):
        if not text.strip():
            continue
        image = file.parent / text.strip()
        if not image.is_file():
            raise DatasetError(f"{file}: line {line}: expected the path of an image, found {text.strip()[:100]!r}")
        images.append(image)
    return images


def _labels_of(image: Path) -> Path:
    parts = list(image.parts)
    folders = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _size(image: Path) -> tuple[int, int]:
    """Height and width in pixels, of the file: boxes are shares of them."""
    if header := read_header(image):
        return header.height, header.width
    from PIL import Image as Pillow

    try:
        with Pillow.open(image) as opened:
            return opened.height, opened.width
    except (OSError, ValueError, Pillow.DecompressionBombError) as error:
        raise DatasetError(f"{image}: its size, of which its boxes are shares, cannot be read") from error


def _decoded(file: Path, content: bytes) -> list[str]:
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: expected text in UTF-8 ({error})") from error


def _boxes(file: Path, content: bytes, names: Mapping[int, str], height: int, width: int) -> Sequence[Box]:
    boxes = []
    for line, text in enumerate(_decoded(file, content), 1):
        words = text.split()
        if not words:
            continue
        what = f"{file}: line {line}"
        try:
            category, *values = (float(word) for word in words)
        except ValueError as error:
            raise DatasetError(f"{what}: expected numbers, class cx cy width height, found {text[:60]!r}") from error
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise DatasetError(f"{what}: expected class cx cy width height, or an outline, found {len(words)} numbers")
        if category not in names:
            raise DatasetError(f"{what}: expected a class of {min(names)} to {max(names)}, found {words[0][:60]}")
        outside = [word for word, value in zip(words[1:], values, strict=True) if not _is_share(value)]
        if outside:
            raise DatasetError(f"{what}: expected shares of the image, 0 to 1, found {outside[0][:60]}")
        boxes.append(Box(f"{file.name} line {line}", int(category), _box(values, height, width)))
    return boxes


def _is_share(value: float) -> bool:
    return math.isfinite(value) and -TOLERANCE <= value <= 1 + TOLERANCE


def _box(values: Sequence[float], height: int, width: int) -> tuple[float, float, float, float]:
    if len(values) == 4:
        x, y, across, down = values
        return (x - across / 2) * width, (y - down / 2) * height, across * width, down * height
    left, top = min(values[::2]), min(values[1::2])
    return left * width, top * height, (max(values[::2]) - left) * width, (max(values[1::2]) - top) * height
