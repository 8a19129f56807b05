"""Detections of two lists matched one to one."""

import numpy as np

from effconv.parity.comparison.pairing import Pairing, pair_detections

BOXES = np.array([[0, 0, 10, 10], [50, 50, 90, 70], [0, 0, 10, 10], [5, 5, 5, 5]], np.float32)
SCORES = np.array([0.9, 0.8, 0.7, 0.1], np.float32)
CATEGORIES = np.array([1, 2, 1, 3])


def matched(order: list[int], **changed: np.ndarray) -> Pairing:
    """The list beside itself in another order, with some columns changed."""
    other = {"boxes": BOXES[order], "scores": SCORES[order], "categories": CATEGORIES[order], **changed}
    return pair_detections(BOXES, SCORES, CATEGORIES, other["boxes"], other["scores"], other["categories"])


def test_equal_lists_are_identical() -> None:
    found = matched([0, 1, 2, 3])
    assert found == Pairing([(0, 0), (1, 1), (2, 2), (3, 3)], [], [], 0.0, 0.0)
    assert found.identical
    nothing = pair_detections(*(each[:0] for each in (BOXES, SCORES, CATEGORIES) * 2))
    assert nothing.identical


def test_another_order_is_seen_and_copies_are_told_apart_by_score() -> None:
    found = matched([1, 0, 2, 3])
    assert found.pairs == [(0, 1), (1, 0), (2, 2), (3, 3)]
    assert not found.identical
    assert matched([2, 1, 0, 3]).pairs == [(0, 2), (1, 1), (2, 0), (3, 3)]


def test_what_only_one_list_has_is_named() -> None:
    found = matched([0, 1, 3])
    assert (found.only_first, found.only_second) == ([2], [])
    found = matched([0, 1, 2, 3], categories=np.array([1, 2, 2, 3]))
    assert (found.only_first, found.only_second) == ([2], [2])
    far = BOXES.copy()
    far[1] += 30
    found = matched([0, 1, 2, 3], boxes=far)
    assert (found.only_first, found.only_second) == ([1], [1])
    assert not found.identical


def test_gaps_are_those_of_pairs() -> None:
    near = BOXES.copy()
    near[1, 0] += 0.4
    found = matched([0, 1, 2, 3], boxes=near, scores=SCORES + np.float32([0, 0, -0.01, 0]))
    assert found.identical
    assert abs(found.score_gap - 0.01) < 1e-6
    assert abs(found.box_gap - 0.4 / 40) < 1e-6


def test_infinite_boxes_are_matched_too() -> None:
    endless = BOXES.copy()
    endless[1, 2:] = np.inf
    endless[2, :] = [-np.inf, 0, np.inf, 10]
    with np.errstate(all="raise"):
        found = pair_detections(endless, SCORES, CATEGORIES, endless, SCORES, CATEGORIES)
    assert found.identical
    assert found.box_gap == 0
