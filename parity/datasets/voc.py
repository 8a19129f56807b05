"""Pascal VOC: a list of image names for each split, and an XML file for each image.

Boxes are whole pixels counted from 1, their last ones included (the VOC2012 development kit): xmin to xmax covers
xmin - 1 to xmax here. Objects marked difficult are ignored. Categories are the names in all annotation files, sorted
and counted from 1, so that every split has the same.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ...effdet_torch.preprocessing.header import read_header
from .box_lists import PICTURE_ENDINGS, Box, Contents, Picture, assemble
from .dataset import Dataset, DatasetError
from .layout import Layout

LISTS, ANNOTATIONS, IMAGES = Path("ImageSets", "Main"), "Annotations", "JPEGImages"
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc_layout(folder: Path) -> Layout | None:
    """The layout, where there are annotation files and lists. Lists of one class's images, `dog_train.txt`, are none:
    they have a second column.
    """
    if not (folder / ANNOTATIONS).is_dir() or not (folder / LISTS).is_dir():
        return None
    splits = [file.stem for file in sorted((folder / LISTS).glob("*.txt")) if len(_first_line(file).split()) == 1]
    return Layout("Pascal VOC", folder, splits, f"{LISTS.as_posix()}/SPLIT.txt", partial(_read, folder))


def _first_line(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline()


def _read(folder: Path, split: str) -> Dataset:
    """A split. Raises DatasetError naming the file and the object at fault."""
    path, contents = folder / LISTS / f"{split}.txt", Contents()
    listed = path.read_bytes()
    contents.add(path.name, listed)
    try:
        lines = listed.decode().splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: expected names of images in UTF-8 ({error})") from error
    roots = {file: _parse(file) for file in sorted((folder / ANNOTATIONS).glob("*.xml"))}
    names = sorted({name for file, root in roots.items() for name, _ in _objects(root, file)})
    if not names:
        raise DatasetError(f"{folder / ANNOTATIONS}: expected .xml files with objects, found {len(roots)} files")
    numbers = {name: number for number, name in enumerate(names, 1)}
    pictures, seen = [], set()
    for line, text in enumerate(lines, 1):
        image = text.strip()
        if not image:
            continue
        file = folder / ANNOTATIONS / f"{image}.xml"
        if file not in roots:
            raise DatasetError(f"{path}: line {line}: {image[:60]!r} has no {ANNOTATIONS}/{file.name[-60:]}")
        if image in seen:
            raise DatasetError(f"{path}: line {line}: {image} is listed twice")
        seen.add(image)
        contents.add(file.name, file.read_bytes())
        pictures.append(_picture(folder, file, roots[file], numbers))
    if not pictures:
        raise DatasetError(f"{path}: expected names of images, found none")
    return assemble(path, split, pictures, {number: name for name, number in numbers.items()}, contents)


class _Plain(ElementTree.TreeBuilder):
    """Refuses a document type, and so entities, by which a short file can grow or read others."""

    def doctype(self, *_: Any) -> None:
        raise ElementTree.ParseError("it declares a document type, which no annotation needs")


def _parse(file: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(file.read_bytes(), ElementTree.XMLParser(target=_Plain()))
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DatasetError(f"{file}: not readable XML ({error})") from error
    if root.tag != "annotation":
        raise DatasetError(f"{file}: expected <annotation>, found <{root.tag[:60]}>")
    return root


def _objects(root: ElementTree.Element, file: Path) -> list[tuple[str, ElementTree.Element]]:
    """The objects with their names: the image's own, for the parts of a person lie within one."""
    found = enumerate(root.findall("object"), 1)
    return [(_text(each, "name", file, f"object {place}"), each) for place, each in found]


def _picture(folder: Path, file: Path, root: ElementTree.Element, numbers: Mapping[str, int]) -> Picture:
    candidates = [folder / IMAGES / f"{file.stem}{ending}" for ending in PICTURE_ENDINGS]
    path = next((each for each in candidates if each.is_file()), candidates[0])
    boxes = []
    for place, (name, each) in enumerate(_objects(root, file), 1):
        what = f"object {place} ({name})"
        xmin, ymin, xmax, ymax = (_number(each, f"bndbox/{corner}", file, what) for corner in CORNERS)
        if xmax < xmin or ymax < ymin:
            raise DatasetError(
                f"{file}: {what}: expected xmin <= xmax and ymin <= ymax, found {xmin:g} to {xmax:g} and "
                f"{ymin:g} to {ymax:g}"
            )
        difficult = (each.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            raise DatasetError(f"{file}: {what}: expected difficult 0 or 1, found {difficult[:60]!r}")
        box = (xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1)
        boxes.append(Box(f"{file.name} {what}", numbers[name], box, difficult == "1"))
    return Picture(path, *_size(root, file, path), boxes)


def _size(root: ElementTree.Element, file: Path, path: Path) -> tuple[int, int]:
    """Height and width: the annotation's, or the image's where it has none or zeros, as some programs write."""
    stated = [(root.findtext(f"size/{side}") or "0").strip() for side in ("height", "width")]
    if all(each.isdecimal() and int(each[:9]) > 0 for each in stated):
        return int(stated[0][:9]), int(stated[1][:9])
    if header := read_header(path):
        return header.height, header.width
    raise DatasetError(
        f"{file}: expected its image's height and width as whole numbers above 0, found {stated[0][:20]!r} and "
        f"{stated[1][:20]!r}, and {path.name} does not tell them"
    )


def _text(element: ElementTree.Element, name: str, file: Path, what: str) -> str:
    found = (element.findtext(name) or "").strip()
    if not found:
        raise DatasetError(f"{file}: {what}: expected <{name}>, found none")
    return found


def _number(element: ElementTree.Element, name: str, file: Path, what: str) -> float:
    text = _text(element, name, file, what)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:  # NaN neither
        raise DatasetError(f"{file}: {what}: expected a number of pixels as {name}, found {text[:60]!r}")
    return value
