"""The drawn dataset: the same every time, of the sizes it promises, and annotated as what is seen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from effconv.cli import main
from effconv.parity.datasets import shapes as shapes_module
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.shapes import CATEGORIES, LARGEST, LEAST_AREA, Drawn, Picture, draw_picture
from effconv.parity.evaluation.coco import evaluate

SIZE = (150, 170)


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [draw_picture(0, number, SIZE) for number in range(120)]


def test_a_picture_is_the_same_whichever_others_are_drawn(pictures: list[Picture]) -> None:
    again = draw_picture(0, 57, SIZE)
    assert np.array_equal(again.pixels, pictures[57].pixels)
    assert [each.box for each in again.objects] == [each.box for each in pictures[57].objects]
    assert not np.array_equal(draw_picture(1, 57, SIZE).pixels, again.pixels)
    assert not np.array_equal(pictures[56].pixels, again.pixels)
    assert (again.pixels.shape, again.pixels.dtype) == ((*SIZE, 3), np.uint8)


def test_there_is_everything_that_makes_it_hard(pictures: list[Picture]) -> None:
    objects = [each for picture in pictures for each in picture.objects]
    single = [each for each in objects if not each.crowd]
    assert {each.category for each in single} == set(CATEGORIES)
    assert any(not picture.objects for picture in pictures)
    assert sum(each.crowd for each in objects) >= 3
    longest = [max(each.box[2:]) for each in single]
    assert min(longest) <= 7
    assert 90 < max(longest) <= 1.5 * LARGEST  # the diagonal of a turned square
    areas = np.array([each.mask.sum() for each in objects])
    assert areas.min() >= LEAST_AREA
    assert 0.5 < (areas < 32**2).mean() < 0.95  # small ones, as COCO counts them


def test_boxes_are_those_of_what_is_seen(pictures: list[Picture]) -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    assert Drawn(1, mask).box == [3.0, 2.0, 5.0, 3.0]
    for picture in pictures:
        for number, drawn in enumerate(picture.objects):
            for later in picture.objects[number + 1 :]:
                assert not (drawn.mask & later.mask).any()  # what is covered is not seen


def test_an_object_is_where_it_is_said_to_be(pictures: list[Picture]) -> None:
    """Inside its mask the colour is far more even than around it."""
    better = total = 0
    for picture in pictures:
        for drawn in picture.objects:
            if drawn.crowd or drawn.mask.sum() < 200:
                continue
            x, y, width, height = (int(value) for value in drawn.box)
            window = np.zeros_like(drawn.mask)
            window[y : y + height, x : x + width] = True
            outside = window & ~drawn.mask
            if outside.sum() > 100:
                inside, around = (picture.pixels[where].astype(float).mean(0) for where in (drawn.mask, outside))
                better += np.abs(inside - around).max() > 15
                total += 1
    assert total > 100
    assert better / total > 0.9


def shapes(folder: Path, *options: str) -> dict[str, object]:
    result = CliRunner().invoke(main, ["shapes", "-o", str(folder), "--size", "64x80", "--json", *options])
    assert result.exit_code == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_the_command_writes_a_dataset_that_evaluation_reads(tmp_path: Path) -> None:
    counts = shapes(tmp_path / "one", "--images", "12")
    dataset = read_dataset(tmp_path / "one")
    assert (counts["images"], counts["objects"]) == (12, len(dataset.annotations))
    assert dataset.categories == CATEGORIES
    for image in dataset.images:
        with Image.open(image.path) as opened:
            assert opened.size == (80, 64)
    true = [each for each in dataset.annotations if not each["iscrowd"]]
    perfect = np.array([(each["image_id"], *each["bbox"], 1.0, each["category_id"]) for each in true])
    assert evaluate(dataset, perfect).metrics["AP"] == pytest.approx(1)
    shapes(tmp_path / "two", "--images", "12")
    for file in (tmp_path / "one").rglob("*.*"):
        assert (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes() == file.read_bytes()
    more = shapes(tmp_path / "more", "--images", "14", "--split", "train")
    assert more["images"] == 14
    first = tmp_path / "more" / "train" / "000001.jpg"
    assert first.read_bytes() == (tmp_path / "one" / "val2017" / "000001.jpg").read_bytes()


def test_pictures_too_small_for_a_shape_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["shapes", "-o", str(tmp_path), "--size", "16x200"])
    assert result.exit_code == 2
    assert "expected sides of at least 32 pixels" in result.stderr
    assert not any(tmp_path.iterdir())


def painted(count: int) -> np.ndarray:
    """(count, 3, 3): a row of three pixels, left, middle and right, all covered by a shape; what lies below is grey."""
    random = np.random.default_rng(0)
    grey = np.full((1, 3, 3), 128.0)
    return np.concatenate([shapes_module._paint(random, grey, np.ones((1, 3))) for _ in range(count)])


def test_a_shape_s_colour_stands_out_in_one_channel_at_least() -> None:
    """By 40 of 256 levels; that it does so in one is enough, so that all other colours are there."""
    gaps = np.abs(painted(300)[:, 1] - 128)
    assert gaps.max(1).min() >= 40
    assert (gaps < 40).any(1).mean() > 0.4


def test_a_shape_is_as_much_brighter_on_one_side_as_it_is_darker_on_the_other() -> None:
    left, middle, right = painted(300).swapaxes(0, 1)
    np.testing.assert_allclose(left + right, 2 * middle, rtol=1e-12)
    slopes = left / middle - 1
    np.testing.assert_allclose(slopes, slopes[:, :1].repeat(3, 1), atol=1e-12)  # the same of each channel
    assert slopes.min() < -0.14
    assert slopes.max() > 0.14
    assert np.abs(slopes).max() <= 0.15 + 1e-12


def test_a_crowd_is_a_dozen_to_two_dozen_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes_module, "EMPTY_SHARE", 0.0)
    monkeypatch.setattr(shapes_module, "CROWD_SHARE", 1.0)
    monkeypatch.setattr(shapes_module, "_category", lambda random: categories.pop())
    coverage, drawn = shapes_module._coverage, []

    def counted(random: np.random.Generator, category: int, *more: Any) -> np.ndarray:
        drawn.append(category)
        return coverage(random, category, *more)

    monkeypatch.setattr(shapes_module, "_coverage", counted)
    counts = set()
    for number in range(150):
        drawn.clear()
        categories = [2] * 7 + [1]  # of the crowd, then of what stands beside it
        draw_picture(0, number, (32, 32))
        counts.add(drawn.count(1))
    assert counts == set(range(12, 25))
