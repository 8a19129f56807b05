"""Datasets as people have them, recognised by the files there are.

| layout | files |
|---|---|
| COCO 2017 | annotations/instances_SPLIT.json, SPLIT/*.jpg |
| Roboflow COCO | SPLIT/_annotations.coco.json beside the pictures |
| Pascal VOC | ImageSets/Main/SPLIT.txt, Annotations/*.xml, JPEGImages/ |
| YOLO | data.yaml, which names the splits' folders: images/, with labels/ in its place |

The first that fits is taken, in this order; a YOLO file may also be named itself.

VOC and YOLO are read here and not by globox 2.9.0, which reads most formats. Tried on small files, it does not
read data.yaml, so that classes are called "0", "1", ...; it refuses an empty line, and outlines; it takes pixels for
shares; its VOC boxes begin a pixel too late, difficult objects are as any others, and entities are expanded. A fault is
an AssertionError that names no file, or an error that names no line.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from ...errors import first_names
from .coco_format import read_coco
from .dataset import ANNOTATION_PREFIX, Dataset, DatasetError
from .layout import EVALUATED_ON, Layout
from .voc import voc_layout
from .yolo import YAML_ENDINGS, yolo_layout

ROBOFLOW = "_annotations.coco.json"
COCO_EXPECTED = f"annotations/{ANNOTATION_PREFIX}SPLIT.json"


class CocoFile(NamedTuple):
    """A COCO annotation file and the folder of its images, wherever they are."""

    annotations: Path
    images: Path

    def __str__(self) -> str:
        return f"{self.annotations} of {self.images}"


def read_dataset(place: Path | CocoFile, split: str | None = None) -> Dataset:
    """A split of the dataset at `place`; without `split` the one to evaluate on, or the only one there is.

    Images are not decoded. Raises DatasetError naming the file and the entry at fault, or what is there instead.
    """
    layout = find_layout(place)
    return layout.read(layout.choose(split, EVALUATED_ON))


def find_layout(place: Path | CocoFile) -> Layout:
    """How the dataset at `place` is laid out: a folder, a YOLO .yaml, or a COCO file. Else raises DatasetError."""
    if isinstance(place, CocoFile):
        if not place.images.is_dir():
            raise DatasetError(f"{place.images}: expected a folder of images, found none", parameters={"images": None})
        name = place.annotations.stem.removeprefix(ANNOTATION_PREFIX)
        return Layout("COCO", place.annotations, [name], "SPLIT", partial(read_coco, place.annotations, place.images))
    if place.suffix in YAML_ENDINGS and place.is_file():
        return yolo_layout(place)
    if files := sorted(place.glob(f"annotations/{ANNOTATION_PREFIX}*.json")):
        names = [file.stem.removeprefix(ANNOTATION_PREFIX) for file in files]
        return Layout("COCO 2017", place, names, COCO_EXPECTED, partial(_read_coco_2017, place))
    if files := sorted(place.glob(f"*/{ROBOFLOW}")):
        names = [file.parent.name for file in files]
        return Layout("Roboflow COCO", place, names, f"SPLIT/{ROBOFLOW}", partial(_read_roboflow, place))
    if voc := voc_layout(place):
        return voc
    yaml_files = [file for ending in YAML_ENDINGS for file in sorted(place.glob(f"*{ending}"))]
    if yaml_files:
        named = [file for file in yaml_files if file.stem == "data"]
        if len(named or yaml_files) > 1:
            found = first_names([each.name for each in yaml_files])
            raise DatasetError(f"{place}: expected one .yaml file, or data.yaml, found {found}; give the path of one")
        return yolo_layout((named or yaml_files)[0])
    raise DatasetError(
        f"{place}: expected {COCO_EXPECTED} (COCO 2017), SPLIT/{ROBOFLOW} (Roboflow), Annotations/ and "
        f"ImageSets/Main/SPLIT.txt (Pascal VOC) or data.yaml (YOLO), found {_there(place)}; give a folder of one of "
        "these layouts, or a COCO file and its images",
        parameters={"annotations": "FILE", "images": "DIR"},
    )


def _read_coco_2017(folder: Path, split: str) -> Dataset:
    return read_coco(folder / COCO_EXPECTED.replace("SPLIT", split), folder / split, split)


def _read_roboflow(folder: Path, split: str) -> Dataset:
    return read_coco(folder / split / ROBOFLOW, folder / split, split)


def _there(place: Path) -> str:
    if not place.exists():
        return "no such folder"
    if not place.is_dir():
        return "a file"
    names = sorted(each.name + "/" * each.is_dir() for each in place.iterdir())
    return first_names(names) or "an empty folder"
