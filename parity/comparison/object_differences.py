"""In what two sides' detections of one image differ, object by object, as a reader of the two pictures would say it."""

from typing import NamedTuple

import numpy as np

from ..reference.pipeline import OfficialDetections
from .pairing import SAME_IOU, Pairing, finite_boxes, overlaps

ALONE_OFFICIAL, ALONE_OURS = "TensorFlow alone", "effconv alone"
MOVED, OTHER_CLASS, OTHER_SCORE = "moved", "another class", "another score"

# Two boxes that overlap by as much and are no pair are told as one object that moved, or is of another class. It words
# a difference that was found without it, and decides about none.
TOLD_AS_ONE = 0.5


class ObjectDifference(NamedTuple):
    """One object that differs: its place in either list, None on the side that has none."""

    kind: str
    official: int | None
    ours: int | None
    overlap: float | None  # intersection over union of the two boxes
    distance: float | None  # the largest difference of a coordinate, in pixels of the picture


def object_differences(
    official: OfficialDetections, ours: OfficialDetections, pairing: Pairing, score_limit: float
) -> list[ObjectDifference]:
    """The objects that differ, those of the highest scores first; boxes yxyx, as numpy arrays.

    Missing on one side; of a pair whose boxes overlap by less than `SAME_IOU` or whose classes are not the same; of
    matched objects whose scores differ by more than `score_limit`.
    """
    shared = overlaps(official.boxes, ours.boxes)

    def between(kind: str, one: int, other: int) -> ObjectDifference:
        gap = np.abs(finite_boxes(official.boxes[one]) - finite_boxes(ours.boxes[other])).max()
        return ObjectDifference(kind, one, other, float(shared[one, other]), float(gap))

    found = []
    for one, other in pairing.pairs:
        gap = abs(float(official.scores[one]) - float(ours.scores[other]))
        if not gap <= score_limit:
            found.append(between(OTHER_SCORE, one, other))
    left, right = set(pairing.only_first), set(pairing.only_second)
    possible = sorted(
        ((bool(official.categories[one] != ours.categories[other]), -shared[one, other], one, other))
        for one in left
        for other in right
        if shared[one, other] >= TOLD_AS_ONE
    )
    for another, _, one, other in possible:
        if one in left and other in right:
            left.remove(one)
            right.remove(other)
            found.append(between(OTHER_CLASS if another else MOVED, one, other))
    found += [ObjectDifference(ALONE_OFFICIAL, one, None, None, None) for one in left]
    found += [ObjectDifference(ALONE_OURS, None, other, None, None) for other in right]

    def best(each: ObjectDifference) -> float:
        sides = ((official, each.official), (ours, each.ours))
        return max(float(side.scores[place]) for side, place in sides if place is not None)

    return sorted(found, key=lambda each: (-best(each), each.official is None, each.official or 0, each.ours or 0))


def box_text(each: ObjectDifference) -> str:
    """How far the two boxes are apart, in words; empty where there is one alone."""
    if each.overlap is None or each.distance is None:
        return ""
    allowed = f", the same from {SAME_IOU:g}" if each.kind == MOVED else ""
    return f"{each.distance:.3g} pixels apart, overlap {each.overlap:.3g}{allowed}"
