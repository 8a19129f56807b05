"""Drawn pictures as datasets of every layout, written from what they have in memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from effconv.parity.datasets.dataset import Dataset, Image
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.shapes import write_shapes

Writer = Callable[[Dataset, Path, str], Path]
DIGITS = 6  # behind the point, in YOLO's rows


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six small pictures with shapes of eight categories; one picture has none, one object is a crowd."""
    folder = tmp_path_factory.mktemp("drawn")
    write_shapes(folder, "val2017", 6, 13, (64, 96))
    path = folder / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    data["annotations"] = [each for each in data["annotations"] if each["image_id"] != 2]
    data["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(data))
    return read_dataset(folder)


def write_roboflow(dataset: Dataset, folder: Path, split: str) -> Path:
    """Pictures and one annotation file together, in a folder for each split."""
    (folder / split).mkdir(parents=True)
    named = {image.id: image.path.name for image in dataset.images}
    data = dataset.coco(dataset.images)
    for entry in data["images"]:
        entry["file_name"] = named[entry["id"]]
        shutil.copy(_by_id(dataset)[entry["id"]].path, folder / split)
    (folder / split / "_annotations.coco.json").write_text(json.dumps(data))
    return folder


def write_yolo(dataset: Dataset, folder: Path, split: str) -> Path:
    """images/SPLIT and labels/SPLIT, with data.yaml; classes count from 0, and crowds are left out: it has none."""
    numbers = {category: number for number, category in enumerate(sorted(dataset.categories))}
    for part in ("images", "labels"):
        (folder / part / split).mkdir(parents=True)
    for image in dataset.images:
        rows = []
        for each in dataset.annotations:
            if each["image_id"] == image.id and not each["iscrowd"]:
                x, y, width, height = each["bbox"]
                shares = ((x + width / 2) / image.width, (y + height / 2) / image.height)
                values = (*shares, width / image.width, height / image.height)
                rows.append(" ".join([str(numbers[each["category_id"]]), *(f"{value:.{DIGITS}f}" for value in values)]))
        shutil.copy(image.path, folder / "images" / split)
        if rows:
            (folder / "labels" / split / f"{image.path.stem}.txt").write_text("\n".join(rows) + "\n")
    path = folder / "data.yaml"
    names = "".join(f"  {number}: {dataset.categories[category]}\n" for category, number in numbers.items())
    earlier = path.read_text().partition("names:")[0] if path.exists() else "path: .\n"
    path.write_text(f"{earlier}{split}: images/{split}\nnames:\n{names}nc: {len(numbers)}\n")
    return folder


def write_voc(dataset: Dataset, folder: Path, split: str) -> Path:
    """Annotations/, JPEGImages/ and ImageSets/Main/SPLIT.txt, with a list for one class beside it, as VOC has them."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for image in dataset.images:
        objects = "".join(
            _voc_object(dataset.categories[each["category_id"]], each["bbox"], each["iscrowd"])
            for each in dataset.annotations
            if each["image_id"] == image.id
        )
        size = f"<size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{image.path.name}</filename>{size}{objects}</annotation>"
        (folder / "Annotations" / f"{image.path.stem}.xml").write_text(text)
        shutil.copy(image.path, folder / "JPEGImages")
    stems = [image.path.stem for image in dataset.images]
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")
    (folder / "ImageSets" / "Main" / f"disc_{split}.txt").write_text("".join(f"{stem} -1\n" for stem in stems))
    return folder


def _voc_object(name: str, box: list[float], difficult: int) -> str:
    x, y, width, height = (int(value) for value in box)
    corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
    written = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners.items())
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{written}</bndbox>{part}</object>"


def _by_id(dataset: Dataset) -> dict[int, Image]:
    return {image.id: image for image in dataset.images}
