"""Drawn pictures: where the lines are, that labels stay inside and can be read, and pictures of odd sizes."""

import itertools

import numpy as np
import pytest
import torch

from effconv.effdet_torch import drawing
from effconv.effdet_torch.drawing import Drawn, draw, draw_boxes, text_colour
from effconv.effdet_torch.label_places import Place
from effconv.effdet_torch.name_colours import name_colour
from effconv.effdet_torch.prediction import Prediction

GREY = 90


def names(count: int, name: str) -> tuple[str, ...]:
    return tuple(name if number == 0 else f"{name} {number + 1}" for number in range(count))


def prediction(*boxes: tuple[float, ...], name: str = "person") -> Prediction:
    """Objects of categories 1, 2, ... and falling scores."""
    count = len(boxes)
    scores = torch.linspace(0.9, 0.5, count)
    return Prediction(torch.tensor(boxes).float(), scores, torch.arange(1, count + 1), names(count, name))


def drawn(size: tuple[int, int], *boxes: tuple[float, ...], name: str = "person") -> np.ndarray:
    pixels = np.full((*size, 3), GREY, np.uint8)
    picture = np.asarray(draw(pixels, prediction(*boxes, name=name)))
    assert picture.shape == pixels.shape
    assert (pixels == GREY).all(), "a copy is drawn on"
    return picture


def of_colour(picture: np.ndarray, category: int) -> np.ndarray:
    return (picture == name_colour(names(category, "person")[-1])).all(axis=-1)


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
    whole = drawn((300, 300), (100, 100, 200, 200), name="person")
    picture = drawn((300, 300), box, name="person")
    assert text_colour(name_colour("person")) == drawing.WHITE
    assert name_colour("person")[0] < 60
    text = [(each[..., 0] > 150).sum() for each in (whole, picture)]  # white on blue
    assert text[0] == text[1] > 50


def test_a_label_with_room_neither_above_nor_inside_is_moved_up() -> None:
    top, low = (drawn((17, 100), (0, y, 90, 16)) for y in (0, 9))
    assert (top[..., 0] > 150).sum() == (low[..., 0] > 150).sum() > 20


def test_the_best_object_is_on_top() -> None:
    picture = drawn((300, 300), (50, 50, 250, 250), (50, 50, 250, 250))
    assert of_colour(picture, 1)[50, 50:251].all()
    assert not of_colour(picture, 2)[50:250, [50, 250]].any()


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
    assert (
        tuple(picture[0, 0]) == name_colour("a very long name of a category")
        or size == (40, 10000)
        or size == (10000, 40)
    )


def test_an_unreadable_label_is_left_out() -> None:
    picture = drawn((12, 30), (5, 3, 25, 9), name="fire hydrant")
    assert set(map(tuple, picture.reshape(-1, 3))) == {(GREY,) * 3, name_colour("fire hydrant")}


def test_a_long_label_is_made_smaller_to_fit() -> None:
    large, small = (drawn((100, 100), (0, 50, 99, 99), name=name) for name in ("cat", "fire hydrant, red"))
    heights = [(50 - np.flatnonzero((each[:50] != GREY).any(axis=(1, 2)))[0]) for each in (large, small)]
    assert heights[0] > heights[1] > drawing.SMALLEST_TEXT // 2


@pytest.mark.parametrize("box", [(400, 0, 500, 50), (-9, 10, 0, 20), (0, float("nan"), 9, 9), (0, 0, float("inf"), 9)])
def test_boxes_that_cannot_be_seen_are_left_out(box: tuple[float, ...]) -> None:
    assert (drawn((100, 100), box) == GREY).all()


def test_text_can_be_read() -> None:
    assert (text_colour((255, 255, 0)), text_colour((20, 20, 160))) == (drawing.BLACK, drawing.WHITE)


def test_a_name_has_its_colour_whatever_its_number() -> None:
    pixels = np.full((200, 200, 3), GREY, np.uint8)
    boxes = torch.tensor([[50.0, 50, 150, 150]])
    pictures = [
        np.asarray(draw(pixels, Prediction(boxes, torch.tensor([0.9]), torch.tensor([number]), ("widget",))))
        for number in (1, 7)
    ]
    assert (pictures[0] == pictures[1]).all()
    assert name_colour("widget") != name_colour("gadget")


def test_labels_are_over_no_other_label_and_over_no_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd: thirty boxes that begin within a few pixels of each other."""
    places: list[Place] = []
    original = drawing.free_place
    monkeypatch.setattr(drawing, "free_place", lambda *given: places.append(original(*given)) or places[-1])
    chance = np.random.default_rng(0)
    corners = chance.uniform(150, 210, (30, 2))
    objects = [Drawn((x, y, x + 160, y + 120), f"thing {number}", f"thing {number}") for number, (x, y) in
               enumerate(corners.tolist())]  # fmt: skip
    picture = np.asarray(draw_boxes(np.full((480, 640, 3), GREY, np.uint8), objects))
    found = [place for place in places if place]
    assert len(found) > 20
    assert not any(one.meets(other) for one, other in itertools.combinations(found, 2))
    for place in found:
        assert 0 <= place.x <= 640 - place.width
        assert 0 <= place.y <= 480 - place.height
    named = {name_colour(each.name) for each in objects}
    for place in found:  # of all boxes' colours a label has its own alone
        within = picture[place.y : place.y + place.height, place.x : place.x + place.width].reshape(-1, 3)
        assert len(named & set(map(tuple, within.tolist()))) == 1
