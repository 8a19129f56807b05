"""Reading COCO-format datasets: what is in them, and what is wrong with them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from effconv.parity.datasets.dataset import DatasetError, Image
from effconv.parity.datasets.layouts import read_dataset
from small_datasets import content, write_dataset


def test_a_dataset_is_read_in_its_own_order(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path, content()))
    folder = tmp_path / "val2017"
    assert dataset.images == (Image(7, folder / "a.jpg", 60, 80), Image(3, folder / "b.jpg", 50, 40))
    assert dataset.categories == {1: "round", 5: "square"}
    assert [each["id"] for each in dataset.annotations] == [1, 2, 3]  # never 0, which the metrics take for none
    assert dataset.annotations[1] == {
        "id": 2,
        "image_id": 7,
        "category_id": 5,
        "bbox": [30.5, 5.0, 40.0, 50.0],
        "area": 1900.5,
        "iscrowd": 0,
    }
    assert dataset.split == "val2017"
    assert dataset.sha256 == hashlib.sha256(dataset.path.read_bytes()).hexdigest()
    coco = dataset.coco(dataset.images[1:])
    assert [image["id"] for image in coco["images"]] == [3]
    assert [each["id"] for each in coco["annotations"]] == [3]
    assert coco["annotations"][0] is not dataset.annotations[2]


def test_missing_area_and_crowd_mark_are_what_boxes_say(tmp_path: Path) -> None:
    data = content()
    del data["annotations"][1]["area"], data["annotations"][1]["iscrowd"]
    found = read_dataset(write_dataset(tmp_path, data)).annotations[1]
    assert (found["area"], found["iscrowd"]) == (2000.0, 0)


def test_boxes_without_area_and_outside_the_image_are_read(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["bbox"] = [500, -20, 0, 0]
    assert read_dataset(write_dataset(tmp_path, data)).annotations[0]["bbox"] == [500.0, -20.0, 0.0, 0.0]


def test_the_split_is_val2017_or_the_only_one_or_the_one_named(tmp_path: Path) -> None:
    write_dataset(tmp_path, content(), "shapes")
    assert read_dataset(tmp_path).split == "shapes"
    write_dataset(tmp_path, content(), "train2017")
    with pytest.raises(DatasetError, match=r"instances_val2017 .*\.json \(COCO 2017\), found shapes, train2017"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, "train2017").path.name == "instances_train2017.json"
    write_dataset(tmp_path, content())
    assert read_dataset(tmp_path).path.name == "instances_val2017.json"
    with pytest.raises(DatasetError, match="no such folder"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"found instances_shapes.json, instances_train2017.json, .*; give a folder"):
        read_dataset(tmp_path / "annotations")


def changed(place: str, value: Any) -> dict[str, Any]:
    """The dataset with one entry replaced, or left out where `value` is Ellipsis; `place` is like images.0.id."""
    data = content()
    *way, last = (int(step) if step.isdigit() else step for step in place.split("."))
    target: Any = data
    for step in way:
        target = target[step]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return data


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("images", ..., "lists images, annotations and categories"),
        ("images", {}, "lists images, annotations and categories"),
        ("images", [1], "of objects"),
        ("images", [], "at least one image"),
        ("categories", [], "at least one image and one category"),
        ("images.0.id", "7", "image expected a whole number as id"),
        ("images.0.id", True, "whole number"),
        ("images.0.id", 3, "two entries for image 3"),
        ("images.0.height", 0, "at least 1x1, found 0x80"),
        ("images.0.width", ..., "whole number as width"),
        ("images.0.file_name", "../a.jpg", r"file name below val2017/, found '\.\./a\.jpg'"),
        ("images.0.file_name", "/etc/passwd", "file name below"),
        ("images.0.file_name", "a\0.jpg", "file name below"),
        ("images.0.file_name", 3, "file name below"),
        ("categories.1.id", 1, "two entries for category 1"),
        ("categories.1.id", None, "whole number as id"),
        ("annotations.0.image_id", 8, "annotation 0: image_id 8 is not among the images; annotations of another"),
        ("annotations.0.category_id", 2, "category_id 2 is not among the categories"),
        ("annotations.0.bbox", [1, 2, 3], r"expected bbox \[x, y, width, height\]"),
        ("annotations.0.bbox", [1, 2, 3, "4"], "expected bbox"),
        ("annotations.0.bbox", [1, 2, 3, float("nan")], "expected bbox"),
        ("annotations.0.bbox", [1, 2, 3, float("inf")], "expected bbox"),
        ("annotations.0.bbox", [1, 2, 3, 10**400], "expected bbox"),
        ("annotations.0.area", float("nan"), "finite area"),
        ("annotations.0.iscrowd", 2, "iscrowd 0 or 1"),
    ],
)
def test_an_entry_at_fault_is_named(place: str, value: Any, message: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, changed(place, value))
    with pytest.raises(DatasetError, match=message) as caught:
        read_dataset(folder)
    assert str(caught.value).startswith(str(folder / "annotations" / "instances_val2017.json"))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100000, json.dumps(content())[:-9]])
def test_what_is_no_dataset_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"instances_val2017\.json: (not JSON|expected COCO's lists)"):
        read_dataset(write_dataset(tmp_path, text))


@pytest.mark.shared
def test_the_real_images_and_their_annotations(shared: Path) -> None:
    dataset = read_dataset(shared / "coco" / "val2017_66")
    assert (len(dataset.images), len(dataset.annotations), len(dataset.categories)) == (66, 560, 80)
    assert all(image.path.is_file() for image in dataset.images)
