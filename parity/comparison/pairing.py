"""Two sides' detections of one image, paired one to one. Pure numpy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LONGEST = 1e12  # pixels
SAME_IOU = 0.9  # detections of one category that overlap by as much are the same object


class Pairing(NamedTuple):
    """Which detection of one list is which of the other, and how far the two are apart."""

    pairs: list[tuple[int, int]]  # (place in the first list, place in the second), by place in the first
    only_first: list[int]
    only_second: list[int]
    score_gap: float  # largest difference of score within a pair
    box_gap: float  # largest difference of a coordinate within a pair, relative to the larger box's longer side

    @property
    def identical(self) -> bool:
        """Whether both lists hold the same objects in the same order."""
        return not self.only_first and not self.only_second and all(one == other for one, other in self.pairs)


def pair_detections(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    categories: NDArray[np.int64],
    other_boxes: NDArray[np.float32],
    other_scores: NDArray[np.float32],
    other_categories: NDArray[np.int64],
) -> Pairing:
    """Pair detections, boxes (N, 4) and (M, 4) yxyx: each of the first, best first, with the nearest free one."""
    shared = overlaps(boxes, other_boxes)
    shared[categories[:, None] != other_categories[None]] = -1
    free = np.ones(len(other_boxes), bool)
    pairs = []
    for place, row in enumerate(shared):
        possible = np.flatnonzero(free & (row >= SAME_IOU))
        if not len(possible):
            continue
        # Of several that are the same object, soft-NMS keeps copies: the nearest in score, then the earliest.
        gaps = np.abs(other_scores[possible].astype(np.float64) - scores[place])
        found = int(possible[np.argmin(gaps)])
        free[found] = False
        pairs.append((place, found))
    matched = {one for one, _ in pairs}
    one, other = (np.array([pair[side] for pair in pairs], int) for side in (0, 1))
    score_gap = np.abs(scores[one].astype(np.float64) - other_scores[other]).max(initial=0.0)
    mine, theirs = finite_boxes(boxes[one]), finite_boxes(other_boxes[other])
    lengths = np.maximum(*(np.abs(each[..., 2:] - each[..., :2]).max(-1, initial=0) for each in (mine, theirs)))
    gaps = np.abs(mine - theirs).max(-1, initial=0)
    box_gap = (gaps / np.maximum(lengths, 1e-6)).max(initial=0.0)
    return Pairing(
        pairs,
        [place for place in range(len(boxes)) if place not in matched],
        np.flatnonzero(free).tolist(),
        float(score_gap),
        float(box_gap),
    )


def finite_boxes(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Coordinates (N, 4) or (4,) as float64, at most LONGEST.

    A size code of random weights can make a side infinite, which then is very long.
    """
    return boxes.astype(np.float64).clip(-LONGEST, LONGEST)


def overlaps(some: NDArray[np.float32], more: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, M) intersections over unions of boxes (N, 4) and (M, 4) yxyx; 1 for equal boxes without area."""
    boxes, others = finite_boxes(some), finite_boxes(more)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(-1) for each in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - shared
    equal = (boxes[:, None] == others[None]).all(-1)
    found: NDArray[np.float64] = np.where(union > 0, shared / np.where(union > 0, union, 1), equal)
    return found
