"""How much it takes to say of a file of detections that it was made otherwise than another."""

import math

import numpy as np
from numpy.typing import NDArray

from ..evaluation.coco import Rows

# How often what is due to chance alone may be taken for a property of a file. Some ten properties are asked about in a
# comparison, so one in a hundred comparisons names one that is none. A laxer one, a tenth, takes it for a threshold of
# one file that the four lowest scores happen to be the other's.
CHANCE = 1e-3
# Of those who vote. Where all boxes or ids have one meaning, votes for another are accidents, next to none; where two
# are mixed, as no single mistake mixes them, neither has three quarters.
MOST = 0.75
SUREST = 20  # detections of an image that are asked: those after them are often of nothing, and agree with anything
SAME = 0.5  # the IoU at which COCO first calls two boxes the same


def is_lacking(count: int, ours: int, mine: int, asked: int = 1) -> bool:
    """Whether `mine` detections lack what `count` of `ours` have and none of `mine` has.

    Were it as frequent in both, all of it would be in ours with a chance of (ours / (ours + mine)) ** count. `asked` is
    of how many such things the one was picked.
    """
    return mine > 0 and count * math.log(ours / (ours + mine)) <= math.log(CHANCE / asked)


def is_decided(votes: int, others: int) -> bool:
    """Whether votes are too many for coins that were tossed, and most of all."""
    return 0.5 ** (votes + others) <= CHANCE and votes >= MOST * (votes + others)


def best_first(rows: Rows) -> dict[int, NDArray[np.int64]]:
    """{image id: places of its detections, best first, equal scores in the order given}."""
    order = np.lexsort((-rows[:, 5], rows[:, 0]))
    numbers, starts = np.unique(rows[order, 0].astype(np.int64), return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)) if len(rows) else {}


def overlaps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(A, 4) and (B, 4) boxes as x, y, width, height -> (A, B) intersections over unions; 0 for boxes without area."""
    a, b = one[:, None], other[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), -1)
    union = np.prod(np.maximum(a[..., 2:], 0), -1) + np.prod(np.maximum(b[..., 2:], 0), -1) - shared
    shares: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return shares


def same_boxes(mine: Rows, ours: Rows) -> list[tuple[int, int]]:
    """Places of boxes that are the same in both, whatever their category, each taken once; of equal ones the surest."""
    pairs: list[tuple[int, int]] = []
    there = best_first(ours)
    for number, places in best_first(mine).items():
        if number in there:
            surest, others = places[:SUREST], there[number]
            shared = overlaps(mine[surest, 1:5], ours[others, 1:5])
            for place, row in zip(surest, shared, strict=True):
                best = int(row.argmax())
                if row[best] >= SAME:
                    pairs.append((int(place), int(others[best])))
                    shared[:, best] = 0
    return pairs
