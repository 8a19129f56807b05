"""The official code's older suppression in numpy (`pyfunc: true`): other overlaps, other padding, two more methods.

Overlaps are of pixel boxes, whose side is max - min + 1; hard suppression ignores the score threshold; rows that no
object is found for have a score of -100000.

Source: google/automl `nms_np.py`. Where scores tie, its order is its sort's; here it is the candidates' order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .detections import Detections
from .nms import CATEGORY_OFFSET, Candidates

Floats = NDArray[np.float32]
PADDING_SCORE = -1e5
DROPPED = -np.inf


# Each takes the scores (K,) of the boxes that are left, the chosen box (4,) and theirs (K, 4), all [x1, y1, x2, y2],
# and returns their new scores, DROPPED for those suppressed.
PixelSuppression = Callable[[Floats, Floats, Floats], Floats]


@dataclass(frozen=True)
class PixelHard:
    """Boxes that overlap the chosen one by more than `iou_threshold` go; scores stay."""

    iou_threshold: float = 0.5

    def __call__(self, scores: Floats, chosen: Floats, boxes: Floats) -> Floats:
        return np.where(_pixel_overlaps(chosen, boxes) <= self.iou_threshold, scores, np.float32(DROPPED))


@dataclass(frozen=True)
class PixelDistance:
    """DIoU (Zheng et al., 2020): the overlap less squared distance of centres over the squared common diagonal."""

    iou_threshold: float = 0.5

    def __call__(self, scores: Floats, chosen: Floats, boxes: Floats) -> Floats:
        apart = ((chosen[:2] + chosen[2:]) / 2 - (boxes[:, :2] + boxes[:, 2:]) / 2) ** 2
        extent = (np.maximum(chosen[2:], boxes[:, 2:]) - np.minimum(chosen[:2], boxes[:, :2])) ** 2
        # Summed x first, then y, and 1e-10 against division by zero: the official code's order.
        penalty = (apart[:, 0] + apart[:, 1]) / (extent[:, 0] + extent[:, 1] + 1e-10)
        return np.where(_pixel_overlaps(chosen, boxes) - penalty <= self.iou_threshold, scores, np.float32(DROPPED))


@dataclass(frozen=True)
class PixelGaussian:
    """Soft-NMS with decay exp(-iou**2 / sigma); boxes below `score_threshold` go."""

    sigma: float = 0.5
    score_threshold: float = 0.001

    def __call__(self, scores: Floats, chosen: Floats, boxes: Floats) -> Floats:
        overlaps = _pixel_overlaps(chosen, boxes)
        return _above(scores * np.exp(-(overlaps * overlaps) / self.sigma), self.score_threshold)


@dataclass(frozen=True)
class PixelLinear:
    """Soft-NMS with decay 1 - iou for overlaps above `iou_threshold`; boxes below `score_threshold` go."""

    iou_threshold: float = 0.3
    score_threshold: float = 0.001

    def __call__(self, scores: Floats, chosen: Floats, boxes: Floats) -> Floats:
        overlaps = _pixel_overlaps(chosen, boxes)
        weights = np.where(overlaps > self.iou_threshold, 1 - overlaps, np.float32(1))
        return _above(scores * weights, self.score_threshold)


@dataclass(frozen=True)
class NumpyPerClass:
    """Boxes compete within their class; the best `max_outputs` of all.

    Padding: zero boxes of category 0 with PADDING_SCORE.
    """

    suppression: PixelSuppression = PixelGaussian()
    max_outputs: int = 100

    def __call__(self, candidates: Candidates) -> Detections:
        boxes, scores, classes, box_of = (column.detach().cpu().numpy() for column in candidates)
        images = len(scores)
        rows = np.zeros((images, self.max_outputs, 4), np.float32)
        row_scores = np.full((images, self.max_outputs), PADDING_SCORE, np.float32)
        categories = np.zeros((images, self.max_outputs), np.int64)
        counts = np.zeros(images, np.int64)
        for image in range(images):
            kept: list[tuple[int, np.float32]] = []
            for label in np.unique(classes[image]):
                members = np.flatnonzero(classes[image] == label)
                corners = boxes[image][box_of[image][members]][:, [1, 0, 3, 2]]
                chosen = _chosen(corners, scores[image][members], self.suppression, self.max_outputs)
                kept += [(int(members[index]), score) for index, score in chosen]
            kept = sorted(kept, key=lambda item: -item[1])[: self.max_outputs]
            counts[image] = len(kept)
            for row, (index, score) in enumerate(kept):
                rows[image, row], row_scores[image, row] = boxes[image][box_of[image][index]], score
                categories[image, row] = classes[image][index] + CATEGORY_OFFSET
        device = candidates.scores.device
        return Detections(*(torch.from_numpy(array).to(device) for array in (rows, row_scores, categories, counts)))


def _chosen(boxes: Floats, scores: Floats, suppression: PixelSuppression, limit: int) -> list[tuple[int, np.float32]]:
    """(index, score) of the first `limit` that survive among the boxes (K, 4) of one class, best first.

    The official code goes on to the end of the class, but what comes later has a lower score.
    """
    left = np.arange(len(scores))
    chosen: list[tuple[int, np.float32]] = []
    while left.size and len(chosen) < limit:
        best = int(scores.argmax())
        # The best trades places with the first, as in the official code: it decides which of equal scores is next.
        left[[0, best]], scores = left[[best, 0]], scores.copy()
        scores[[0, best]] = scores[[best, 0]]
        chosen.append((int(left[0]), scores[0]))
        weakened = suppression(scores[1:], boxes[left[0]], boxes[left[1:]])
        keep = weakened > DROPPED
        left, scores = left[1:][keep], weakened[keep]
    return chosen


def _pixel_overlaps(chosen: Floats, boxes: Floats) -> Floats:
    """Intersection over union (K,) of boxes that include their last pixel."""
    shared = np.maximum(np.minimum(chosen[2:], boxes[:, 2:]) - np.maximum(chosen[:2], boxes[:, :2]) + 1, 0).prod(1)
    area, areas = (chosen[2:] - chosen[:2] + 1).prod(), (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    return np.asarray(shared / (area + areas - shared), np.float32)


def _above(scores: Floats, threshold: float) -> Floats:
    return np.where(scores >= threshold, scores, np.float32(DROPPED))
