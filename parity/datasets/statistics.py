"""What a dataset has: boxes and images by category, sizes at the model's input, aspect ratios."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..plain import Plain
from .boxes import Boxes
from .dataset import Dataset

SIDES = (0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # pixels; the last bin has no end
ASPECTS = (0, 0.125, 0.25, 0.5, 0.707, 1, 1.414, 2, 4, 8)  # width to height; so has this


@dataclass(frozen=True, kw_only=True)
class CategoryCount(Plain):
    """How many boxes of a category there are, and on how many images."""

    id: int
    name: str
    boxes: int
    images: int


@dataclass(frozen=True, kw_only=True)
class Bin(Plain):
    """How many values are `least` or more, and below the next bin's."""

    least: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Statistics(Plain):
    """Counts by category, in the order of ids, and the boxes' sizes (square root of area) and aspects when resized."""

    images: int
    boxes: int
    crowds: int
    categories: tuple[CategoryCount, ...]
    sizes: tuple[Bin, ...]
    aspects: tuple[Bin, ...]


def statistics(dataset: Dataset, boxes: Boxes, resized: NDArray[np.float64]) -> Statistics:
    """Of all boxes; those without area have no size and no aspect. `resized` (N, 2): heights and widths as resized."""
    sides = resized[(resized > 0).all(1)]
    categories = [
        CategoryCount(
            id=number,
            name=name,
            boxes=int((boxes.categories == number).sum()),
            images=len(np.unique(boxes.images[boxes.categories == number])),
        )
        for number, name in sorted(dataset.categories.items())
    ]
    return Statistics(
        images=len(dataset.images),
        boxes=len(boxes),
        crowds=int(boxes.crowd.sum()),
        categories=tuple(categories),
        sizes=bins(np.sqrt(sides.prod(1)), SIDES),
        aspects=bins(sides[:, 1] / sides[:, 0], ASPECTS),
    )


def bins(values: NDArray[np.float64], edges: Sequence[float]) -> tuple[Bin, ...]:
    """How many of `values`, none below the first of `edges`, are in each bin; the last one has no end."""
    places = np.searchsorted(edges, values, side="right") - 1
    counts = np.bincount(places, minlength=len(edges))
    return tuple(Bin(least=float(edge), count=int(count)) for edge, count in zip(edges, counts, strict=True))
