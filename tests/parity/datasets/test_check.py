"""A check of a dataset names each fault that is planted in it, and nothing of a dataset without."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_datasets import IMAGES, PER_IMAGE, SIZE, change, clean, write_clean
from PIL import Image

from effconv.effdet_torch.config import get_config
from effconv.parity.datasets import findings
from effconv.parity.datasets.boxes import Boxes
from effconv.parity.datasets.check import DatasetCheck, check_dataset
from effconv.parity.datasets.dataset import DatasetError
from effconv.parity.datasets.findings import KINDS
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.resized import resized_boxes, resized_sides
from effconv.parity.datasets.statistics import bins

BOXES = IMAGES * PER_IMAGE


def check(folder: Path, model: str = "d0") -> DatasetCheck:
    return check_dataset(folder, None, get_config(model), lambda done, total: None)[0]


def names(folder: Path) -> list[str]:
    return [each.name for each in check(folder).findings]


def annotations(change_one: Callable[[dict[str, Any]], None], *places: int) -> list[dict[str, Any]]:
    changed = clean()["annotations"]
    for place in places:
        change_one(changed[place])
    return changed


def put(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.update(values)


def shares(entry: dict[str, Any]) -> None:
    entry["bbox"] = [value / side for value, side in zip(entry["bbox"], (*SIZE[::-1], *SIZE[::-1]), strict=True)]


def corners(entry: dict[str, Any]) -> None:
    x, y, width, height = entry["bbox"]
    entry["bbox"] = [x, y, x + width, y + height]


def turn(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    change(
        folder, images=[each | {"file_name": each["file_name"].replace("1.png", "1.jpg")} for each in clean()["images"]]
    )
    for number in (1, 11):
        Image.open(folder / f"val2017/{number}.png").save(folder / f"val2017/{number}.jpg", exif=exif)


def other_split(folder: Path) -> None:
    write_clean(folder, "train2017", seed=2)
    shutil.copy(folder / "val2017/3.png", folder / "train2017/7.png")


EVERY = range(BOXES)
CATEGORIES = clean()["categories"]
# What is done to a clean dataset, what is found of it, and how many.
PLANTED: dict[str, tuple[Callable[[Path], object], dict[str, int]]] = {
    "corners": (lambda folder: change(folder, annotations=annotations(corners, *EVERY)), {findings.CORNERS: -1}),
    "shares": (lambda folder: change(folder, annotations=annotations(shares, *EVERY)), {findings.SHARES: BOXES}),
    "negative": (
        lambda folder: change(folder, annotations=annotations(put(bbox=[20, 20, -5, 8]), 4)),
        {findings.NO_AREA: 1},
    ),
    "outside": (
        lambda folder: change(folder, annotations=annotations(put(bbox=[120, 20, 30, 30]), 1, 7)),
        {findings.OUTSIDE: 2},
    ),
    "tiny": (
        lambda folder: change(folder, annotations=annotations(put(bbox=[20, 20, 20, 0.4]), 0)),
        {findings.TINY: 1},
    ),
    "twice": (
        lambda folder: change(folder, annotations=[*clean()["annotations"], clean()["annotations"][3] | {"id": 99}]),
        {findings.DUPLICATE_BOXES: 1},
    ),
    "one id": (
        lambda folder: change(folder, annotations=annotations(put(id=1), 1)),
        {findings.DUPLICATE_IDS: 2},
    ),
    "missing": (lambda folder: (folder / "val2017/2.png").unlink(), {findings.MISSING: 1}),
    "unreadable": (
        lambda folder: (folder / "val2017/2.png").write_bytes((folder / "val2017/2.png").read_bytes()[:900]),
        {findings.UNREADABLE: 1},
    ),
    "other size": (
        lambda folder: change(folder, images=[each | {"height": 97} for each in clean()["images"]]),
        {findings.OTHER_SIZE: IMAGES},
    ),
    "turned": (turn, {findings.TURNED: 2}),
    "same picture": (
        lambda folder: shutil.copy(folder / "val2017/1.png", folder / "val2017/2.png"),
        {findings.SAME_PICTURE: 1},
    ),
    "in two splits": (other_split, {findings.SAME_IN_SPLITS: 1}),
    "empty": (
        lambda folder: change(folder, images=[*clean()["images"], clean()["images"][0] | {"id": 99}]),
        {findings.EMPTY: 1, findings.SAME_PICTURE: 1},
    ),
    "nothing": (lambda folder: change(folder, annotations=[]), {findings.NOTHING: 1}),
    "from zero": (
        lambda folder: change(
            folder,
            annotations=[each | {"category_id": each["category_id"] - 1} for each in clean()["annotations"]],
            categories=[each | {"id": each["id"] - 1} for each in CATEGORIES],
        ),
        {findings.FROM_ZERO: 1},
    ),
    "unused": (
        lambda folder: change(folder, categories=[*CATEGORIES, {"id": 3, "name": "oval"}]),
        {findings.UNUSED: 1},
    ),
    "few": (
        lambda folder: change(
            folder, annotations=annotations(put(category_id=3), 5), categories=[*CATEGORIES, {"id": 3, "name": "oval"}]
        ),
        {findings.FEW: 1},
    ),
    "alike": (
        lambda folder: change(folder, categories=[{"id": 1, "name": "Stop sign"}, {"id": 2, "name": "stop-sign"}]),
        {findings.ALIKE: 2},
    ),
}


def test_nothing_is_found_in_a_clean_dataset(tmp_path: Path) -> None:
    checked = check(write_clean(tmp_path))
    assert (checked.ok, checked.findings) == (True, ())
    counts = checked.statistics
    assert (counts.boxes, counts.images, counts.crowds) == (BOXES, IMAGES, 0)
    assert [(each.name, each.boxes, each.images) for each in counts.categories] == [
        ("round", BOXES // 2, IMAGES),
        ("square", BOXES // 2, IMAGES),
    ]
    for each in (counts.sizes, counts.aspects):
        assert sum(one.count for one in each) == BOXES
    assert DatasetCheck.read(json.loads(json.dumps(checked.plain()))) == checked


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_and_nothing_else(fault: str, tmp_path: Path) -> None:
    plant, expected = PLANTED[fault]
    plant(write_clean(tmp_path))
    checked = check(tmp_path)
    assert {each.name for each in checked.findings} == set(expected)
    assert checked.ok is not any(KINDS[name].serious for name in expected)
    for each in checked.findings:
        assert expected[each.name] in (-1, each.count)
        assert 0 < len(each.examples) <= findings.EXAMPLES
        assert each.total >= each.count
        assert each.examples[0].where


def test_every_kind_is_planted() -> None:
    assert {name for _, expected in PLANTED.values() for name in expected} == set(KINDS)


def test_examples_name_file_annotation_and_values(tmp_path: Path) -> None:
    PLANTED["outside"][0](write_clean(tmp_path))
    assert check(tmp_path).findings[0].examples[0].line == "1.png, annotation 2, [120, 20, 30, 30] in 128 x 96 pixels"


def test_some_boxes_beyond_their_picture_are_no_corners(tmp_path: Path) -> None:
    """What corners are told by is that all of them fit: a third of right boxes on another scale is not rewritten."""
    write_clean(tmp_path)
    change(tmp_path, annotations=annotations(put(bbox=[100, 60, 90, 70]), *range(0, BOXES, 3)))
    assert names(tmp_path) == [findings.OUTSIDE]


def test_boxes_that_fit_both_ways_are_taken_as_they_should_be(tmp_path: Path) -> None:
    """Large ones in the upper left corner, which as corners would all fit too: few leave their picture as they are."""
    write_clean(tmp_path)
    changed = clean()["annotations"]
    for number, each in enumerate(changed):
        each["bbox"] = [number % 9, number % 7, 60 + number, 50 + number]
    change(tmp_path, annotations=changed)
    assert names(tmp_path) == []
    for each in changed[:3]:
        each["bbox"] = [9 + each["id"], 7, 125, 80]
    change(tmp_path, annotations=changed)
    assert names(tmp_path) == [findings.OUTSIDE]


def test_a_few_boxes_that_would_do_as_corners_are_not_called_so(tmp_path: Path) -> None:
    write_clean(tmp_path)
    change(tmp_path, annotations=annotations(corners, *EVERY)[:6])
    assert findings.CORNERS not in names(tmp_path)


def test_a_pixel_beyond_the_picture_is_rounding(tmp_path: Path) -> None:
    write_clean(tmp_path)
    change(tmp_path, annotations=annotations(put(bbox=[100, 60, 29, 37]), 3))
    assert names(tmp_path) == []


def test_boxes_are_taken_for_pixels_of_the_file(tmp_path: Path) -> None:
    """Height and width swapped in the annotations: the boxes are where they should be all the same."""
    write_clean(tmp_path)
    change(tmp_path, images=[each | {"height": SIZE[1], "width": SIZE[0]} for each in clean()["images"]])
    assert names(tmp_path) == [findings.OTHER_SIZE]


def test_a_category_that_is_not_there_cannot_be_checked(tmp_path: Path) -> None:
    write_clean(tmp_path)
    change(tmp_path, annotations=annotations(put(category_id=9), 3))
    with pytest.raises(DatasetError, match="annotation 4: category_id 9 is not among the categories"):
        check(tmp_path)


@pytest.mark.parametrize("model", ["d0", "lite0"])
@pytest.mark.parametrize("size", [(96, 128), (333, 77), (700, 901)])
def test_boxes_are_resized_as_training_resizes_them(model: str, size: tuple[int, int], tmp_path: Path) -> None:
    from effconv.effdet_torch.training.augment import unchanged

    config, random = get_config(model), np.random.default_rng(3)
    data = clean()
    for image in data["images"]:
        image["height"], image["width"] = size
    for each in data["annotations"]:
        each["bbox"] = [float(value) for value in random.uniform(0, 1, 4) * [size[1], size[0], size[1], size[0]]]
    write_clean(tmp_path)
    change(tmp_path, **data)
    boxes = Boxes.of(read_dataset(tmp_path), {})
    x, y, width, height = boxes.xywh.T
    example = unchanged(
        np.zeros((*size, 3), np.uint8),
        np.stack([y, x, y + height, x + width], 1),
        np.zeros(len(boxes), np.int64),
        config,
    )
    np.testing.assert_array_equal(resized_boxes(boxes, config), example.boxes)
    inside = (x + width < size[1] - 2) & (y + height < size[0] - 2)
    sides = example.boxes[:, 2:] - example.boxes[:, :2]
    np.testing.assert_allclose(resized_sides(boxes, config)[inside], sides[inside], rtol=1e-4, atol=1e-3)


def test_bins_have_their_lower_edge() -> None:
    assert [each.count for each in bins(np.array([0, 1.9, 2, 5, 99]), (0, 2, 4))] == [2, 1, 2]
