"""How well a model's anchors reach a dataset's boxes: the best overlap of each box, of all anchors there are.

Exact, and without looking at all anchors: of anchors of one level, octave and aspect, which are of one size and stand
in a grid, none overlaps a box more than the one whose centre is nearest to the box's, row and column each by itself:
how far two intervals of given lengths overlap depends on nothing but how far their centres are apart.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.anchors import feature_sizes
from ...effdet_torch.training.targets import MATCHED_IOU
from ..plain import Plain
from .boxes import Boxes
from .dataset import Dataset
from .resized import resized_boxes
from .statistics import Bin, bins

# COCO's, by the object's area in pixels of the picture: from the first number on, and below the second.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
TENTHS = tuple(tenth / 10 for tenth in range(10))
WORST = 5  # categories
WORTH_NAMING = 10  # boxes of a category, below which a share of them says little


@dataclass(frozen=True, kw_only=True)
class Share(Plain):
    """How many of some boxes no anchor reaches, and the mean of their best overlaps."""

    name: str
    boxes: int
    not_reached: int
    mean_best: float

    @property
    def share(self) -> float:
        """Of 1; 0 where there are no boxes."""
        return self.not_reached / self.boxes if self.boxes else 0.0


@dataclass(frozen=True, kw_only=True)
class Coverage(Plain):
    """Of the boxes that training learns from: no crowds, and nothing of which the input has no area.

    A box that no anchor overlaps by `iou` or more is learnt by one anchor alone, its best, however little it overlaps.
    """

    iou: float
    aspect_ratios: tuple[float, ...]
    anchor_scale: float
    left_out: int
    all: Share
    best_overlaps: tuple[Bin, ...]
    by_size: tuple[Share, ...]
    worst_categories: tuple[Share, ...]


def best_overlaps(boxes: NDArray[np.floating], config: Config) -> NDArray[np.float64]:
    """(N,) the largest intersection over union of each of `boxes` (N, 4) [ymin, xmin, ymax, xmax], pixels of the
    model's input, with any of the model's anchors; 0 of one without area.
    """
    ymin, xmin, ymax, xmax = boxes.astype(np.float64).T
    height, width = ymax - ymin, xmax - xmin
    best = np.zeros(len(boxes))
    for feature_size in feature_sizes(config):
        strides = [side / cells for side, cells in zip(config.image_size, feature_size, strict=True)]
        apart_y = _to_nearest((ymin + ymax) / 2, strides[0], config.image_size[0])
        apart_x = _to_nearest((xmin + xmax) / 2, strides[1], config.image_size[1])
        for octave in range(config.num_scales):
            factor = config.anchor_scale * 2 ** (octave / config.num_scales)
            for ratio in config.aspect_ratios:
                anchor = factor * strides[0] / np.sqrt(ratio), factor * strides[1] * np.sqrt(ratio)
                meeting = _meeting(height, anchor[0], apart_y) * _meeting(width, anchor[1], apart_x)
                overlaps = meeting / (height * width + anchor[0] * anchor[1] - meeting)
                np.maximum(best, overlaps, out=best)
    return np.where((height > 0) & (width > 0), best, 0)


def _to_nearest(centres: NDArray[np.float64], stride: float, side: int) -> NDArray[np.float64]:
    """How far each of `centres` is from the nearest of the grid's: stride / 2, 3 stride / 2, ... below `side`."""
    grid = np.arange(stride / 2, side, stride)
    place = np.clip(np.round((centres - stride / 2) / stride).astype(np.int64), 0, len(grid) - 1)
    distance: NDArray[np.float64] = np.abs(centres - grid[place])
    return distance


def _meeting(length: NDArray[np.float64], other: float, apart: NDArray[np.float64]) -> NDArray[np.float64]:
    """What two intervals have in common, whose centres are `apart`: no more than the shorter one, and not below 0."""
    common: NDArray[np.float64] = np.clip((length + other) / 2 - apart, 0, np.minimum(length, other))
    return common


def learnt(boxes: Boxes, config: Config) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(places of the boxes that training learns from, those boxes (M, 4) at the model's input)."""
    resized = resized_boxes(boxes, config)
    there = ((resized[:, 2:] - resized[:, :2]) > 0).all(1) & ~boxes.crowd
    return np.flatnonzero(there), resized[there]


def coverage(dataset: Dataset, boxes: Boxes, config: Config) -> Coverage | None:
    """How the model's anchors reach the dataset's boxes; None where there is nothing to learn from."""
    places, resized = learnt(boxes, config)
    if not len(places):
        return None
    best = best_overlaps(resized, config)
    areas, categories = boxes.areas[places], boxes.categories[places]
    by_size = [_share(name, best[(areas >= low) & (areas < high)]) for name, (low, high) in SIZES.items()]
    each = [_share(name, best[categories == number]) for number, name in dataset.categories.items()]
    missed = [one for one in each if one.boxes >= WORTH_NAMING and one.not_reached]
    return Coverage(
        iou=MATCHED_IOU,
        aspect_ratios=config.aspect_ratios,
        anchor_scale=config.anchor_scale,
        left_out=len(boxes) - len(places),
        all=_share("all", best),
        best_overlaps=bins(best, TENTHS),
        by_size=tuple(by_size),
        worst_categories=tuple(sorted(missed, key=lambda one: -one.share)[:WORST]),
    )


def _share(name: str, best: NDArray[np.float64]) -> Share:
    return Share(
        name=name,
        boxes=len(best),
        not_reached=int((best < MATCHED_IOU).sum()),
        mean_best=float(best.mean()) if len(best) else 0.0,
    )
