"""Findings about boxes: their coordinates, their places, their sizes at the model's input, and what is there twice."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .boxes import Boxes
from .dataset import Dataset
from .examination import TOLERANCE
from .findings import (
    CORNERS,
    DUPLICATE_BOXES,
    DUPLICATE_IDS,
    NO_AREA,
    NOTHING,
    OUTSIDE,
    SHARES,
    TINY,
    Example,
    Finding,
    found,
)

# Corners read as a width and a height leave the picture wherever the box's centre is in its right or lower half: three
# quarters of boxes that lie anywhere. Boxes given as they should be leave it by mistakes, which are fewer than this.
LEAVING = 0.25
# Of boxes that are no corners, few have a width above x and a height above y: seven and more by chance are as good as
# impossible, fewer are too few to say so. A hundredth may be broken in some other way.
LEAST_BOXES, BROKEN = 7, 0.01
# Pixels of the shorter side: the first convolution has stride 2, and what is smaller is less than one place of its map.
TINY_SIDE = 2.0
PLACES = 2  # decimals of coordinates within which two boxes are the same: annotation tools write two


def box_findings(dataset: Dataset, boxes: Boxes, resized: NDArray[np.float64]) -> list[Finding]:
    """All findings about boxes; `resized` (N, 2) are their heights and widths at the model's input."""
    if not len(boxes):
        return found(NOTHING, len(dataset.images), [Example(where=dataset.path.name)])
    empty = (boxes.xywh[:, 2:] <= 0).any(1)
    corners, shares = given_by_corners(boxes), given_in_shares(boxes)
    outside = beyond(boxes) & ~empty
    # Where all coordinates mean something else, the places and sizes that follow from them say nothing more.
    if corners or shares:
        outside[:] = False
    tiny = (resized.min(1) < TINY_SIDE) & ~empty & (not shares)
    times = Counter(boxes.names)
    twice = [place for place, name in enumerate(boxes.names) if times[name] > 1]
    every = np.arange(len(boxes))

    def examples(places: Iterable[int]) -> list[Example]:
        return [_example(dataset, boxes, int(place)) for place in places]

    def small(places: Iterable[int]) -> list[Example]:
        sizes = (resized[place] for place in places)
        return [
            Example(where=each.where, annotation=each.annotation, values=f"{width:.1f} x {height:.1f} pixels")
            for each, (height, width) in zip(examples(places), sizes, strict=True)
        ]

    total = len(boxes)
    return [
        *found(CORNERS, total, examples(every[beyond(boxes)]) if corners else []),
        *found(SHARES, total, examples(every) if shares else []),
        *found(NO_AREA, total, examples(np.flatnonzero(empty))),
        *found(OUTSIDE, total, examples(np.flatnonzero(outside))),
        *found(TINY, total, small(np.flatnonzero(tiny).tolist())),
        *found(DUPLICATE_BOXES, total, examples(repeated(boxes))),
        *found(DUPLICATE_IDS, total, examples(twice)),
    ]


def beyond(boxes: Boxes) -> NDArray[np.bool_]:
    """(N,) whether a box reaches beyond its picture by more than `examination.TOLERANCE`."""
    return _leave(boxes, boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:])


def given_by_corners(boxes: Boxes) -> bool:
    """Whether the third and fourth numbers are the second corner's place and not a width and a height."""
    leaving = beyond(boxes)
    first, second = boxes.xywh[:, :2], boxes.xywh[:, 2:]
    no_corners = (second <= first).any(1) | _leave(boxes, first, second)
    return len(boxes) >= LEAST_BOXES and leaving.mean() >= LEAVING and no_corners.mean() <= BROKEN


def given_in_shares(boxes: Boxes) -> bool:
    """Whether every coordinate is 0 to 1, which in pixels no dataset's boxes are."""
    return bool((boxes.xywh.max() <= 1) and (boxes.xywh.min() >= 0) and (boxes.xywh[:, 2:] > 0).any())


def repeated(boxes: Boxes) -> list[int]:
    """Places of boxes that an earlier box has the picture, category, kind and coordinates of."""
    keys = np.column_stack([boxes.images, boxes.categories, boxes.crowd, boxes.xywh.round(PLACES)])
    _, first = np.unique(keys, axis=0, return_index=True)
    return sorted(set(range(len(boxes))) - set(first.tolist()))


def _leave(boxes: Boxes, first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    over = np.maximum(-first, second - boxes.sizes[:, ::-1])
    found_beyond: NDArray[np.bool_] = over.max(1) > TOLERANCE
    return found_beyond


def _example(dataset: Dataset, boxes: Boxes, place: int) -> Example:
    image = dataset.images[boxes.images[place]]
    height, width = boxes.sizes[place]
    box = ", ".join(f"{value:.6g}" for value in boxes.xywh[place])
    return Example(where=image.path.name, annotation=boxes.names[place], values=f"[{box}] in {width} x {height} pixels")
