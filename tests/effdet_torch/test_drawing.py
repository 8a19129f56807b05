"""Drawn pictures: where the lines are, that labels stay inside and can be read, and pictures of odd sizes."""

import itertools

import numpy as np
import pytest
import torch

from effconv.effdet_torch import drawing
from effconv.effdet_torch.drawing import category_colour, draw, text_colour
from effconv.effdet_torch.prediction import Prediction

GREY = 90


def prediction(*boxes: tuple[float, ...], name: str = "cat") -> Prediction:
    """Objects of categories 1, 2, ... and falling scores."""
    count = len(boxes)
    scores = torch.linspace(0.9, 0.5, count)
    return Prediction(torch.tensor(boxes).float(), scores, torch.arange(1, count + 1), (name,) * count)


def drawn(size: tuple[int, int], *boxes: tuple[float, ...], name: str = "cat") -> np.ndarray:
    pixels = np.full((*size, 3), GREY, np.uint8)
    picture = np.asarray(draw(pixels, prediction(*boxes, name=name)))
    assert picture.shape == pixels.shape
    assert (pixels == GREY).all(), "a copy is drawn on"
    return picture


def of_colour(picture: np.ndarray, category: int) -> np.ndarray:
    return (picture == category_colour(category)).all(axis=-1)


def test_a_box_is_an_outline_with_a_label_above() -> None:
    picture = drawn((300, 300), (100, 100, 200, 250))
    lines = of_colour(picture, 1)
    assert lines[100, 100:201].all()
    assert lines[250, 100:201].all()
    assert lines[100:251, 100].all()
    assert lines[100:251, 200].all()
    assert (picture[110:240, 110:190] == GREY).all(), "the inside is left alone"
    assert (picture[255:] == GREY).all()
    rows = np.flatnonzero((picture[:100] != GREY).any(axis=(1, 2)))
    assert 80 <= rows[0] < rows[-1] == 99, "the label ends where the box begins"


@pytest.mark.parametrize(
    "box",
    [(-50, -50, 40, 40), (250, 0, 400, 30), (0, 280, 60, 400), (290, 290, 299, 299), (-500, -500, 900, 900)],
)
def test_labels_are_moved_inside(box: tuple[float, ...]) -> None:
    """The same number of pixels is text wherever the box is: nothing of the label is cut off."""
    whole = drawn((300, 300), (100, 100, 200, 200), name="an elephant")
    picture = drawn((300, 300), box, name="an elephant")
    assert text_colour(category_colour(1)) == drawing.WHITE
    assert category_colour(1)[0] < 60
    text = [(each[..., 0] > 150).sum() for each in (whole, picture)]  # white on blue
    assert text[0] == text[1] > 50


def test_a_label_with_room_neither_above_nor_inside_is_moved_up() -> None:
    top, low = (drawn((17, 100), (0, y, 90, 16)) for y in (0, 9))
    assert (top[..., 0] > 150).sum() == (low[..., 0] > 150).sum() > 20


def test_the_best_object_is_on_top() -> None:
    picture = drawn((300, 300), (50, 50, 250, 250), (50, 50, 250, 250))
    assert of_colour(picture, 1)[50, 50:251].all()
    assert not of_colour(picture, 2).any()


def test_lines_and_text_follow_the_size() -> None:
    def line(side: int) -> int:
        box = (side / 4, side / 4, side / 2, side / 2)
        return int(of_colour(drawn((side, side), box), 1)[side * 3 // 8].sum()) // 2

    assert (line(100), line(600), line(3000)) == (1, 2, 10)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 9), (40, 10000), (10000, 40), (12, 80)])
def test_odd_sizes_are_drawn(size: tuple[int, int]) -> None:
    height, width = size
    boxes = [(0, 0, width, height), (width * 0.4, height * 0.1, width * 0.6, height * 0.9), (0, 0, 0, 0)]
    picture = drawn(size, *boxes, name="a very long name of a category")
    assert of_colour(picture, 1)[0, 0] or size == (40, 10000) or size == (10000, 40)


def test_an_unreadable_label_is_left_out() -> None:
    picture = drawn((12, 30), (5, 3, 25, 9), name="fire hydrant")
    assert set(map(tuple, picture.reshape(-1, 3))) == {(GREY,) * 3, category_colour(1)}


def test_a_long_label_is_made_smaller_to_fit() -> None:
    large, small = (drawn((100, 100), (0, 50, 99, 99), name=name) for name in ("cat", "fire hydrant, red"))
    heights = [(50 - np.flatnonzero((each[:50] != GREY).any(axis=(1, 2)))[0]) for each in (large, small)]
    assert heights[0] > heights[1] > drawing.SMALLEST_TEXT // 2


@pytest.mark.parametrize("box", [(400, 0, 500, 50), (-9, 10, 0, 20), (0, float("nan"), 9, 9), (0, 0, float("inf"), 9)])
def test_boxes_that_cannot_be_seen_are_left_out(box: tuple[float, ...]) -> None:
    assert (drawn((100, 100), box) == GREY).all()


def test_colours_tell_categories_apart_and_text_can_be_read() -> None:
    colours = [category_colour(number) for number in range(1, 91)]
    assert len(set(colours)) == 90
    assert colours == [category_colour(number) for number in range(1, 91)]
    for colour, following in itertools.pairwise(colours):
        assert max(abs(a - b) for a, b in zip(colour, following, strict=True)) > 60
    assert (text_colour((255, 255, 0)), text_colour((20, 20, 160))) == (drawing.BLACK, drawing.WHITE)
