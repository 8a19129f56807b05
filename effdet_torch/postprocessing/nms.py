"""The official kinds of non-maximum suppression: within classes, across classes, combined, and the numpy path's.

They differ in what competes with what, and in what fills the rows that no object is found for.
Source: google/automl `tf2/postprocess.py`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .detections import Detections
from .suppression import OFFICIAL, Choose, Chosen, Hard, Suppression, choose_lazily

CATEGORY_OFFSET = 1  # class c of the model is COCO category c + 1


class Candidates(NamedTuple):
    """What suppression chooses from: K (anchor, class) pairs per image, several of which may share a box."""

    boxes: Tensor  # (B, P, 4) float32 [ymin, xmin, ymax, xmax] in input pixels
    scores: Tensor  # (B, K) float32
    classes: Tensor  # (B, K) int64, from 0
    box_of: Tensor  # (B, K) int64, the pair's box


@dataclass(frozen=True)
class PerClass:
    """Boxes compete within their class; the best `max_outputs` of all classes. Padding: zeros, category 0."""

    suppression: Suppression = OFFICIAL
    max_outputs: int = 100
    choose: Choose = choose_lazily

    def __call__(self, candidates: Candidates) -> Detections:
        boxes, scores, classes, box_of = candidates
        chosen = self.choose(boxes, scores, classes, box_of, self.suppression, self.max_outputs)
        return _padded(gathered(candidates, chosen), category=0)


@dataclass(frozen=True)
class AcrossClasses:
    """Boxes compete whatever their class, the official code's global NMS. Padding: the first candidate's box and
    category with a score of 0, because TensorFlow pads indices with 0.
    """

    suppression: Suppression = OFFICIAL
    max_outputs: int = 100
    choose: Choose = choose_lazily

    def __call__(self, candidates: Candidates) -> Detections:
        boxes, scores, classes, box_of = candidates
        groups = torch.zeros_like(classes)
        # Rows beyond the valid ones point to candidate 0 already.
        return gathered(candidates, self.choose(boxes, scores, groups, box_of, self.suppression, self.max_outputs))


@dataclass(frozen=True)
class Combined:
    """TensorFlow's combined NMS with the settings the official code gives it: hard, within classes, overlap 0.5.

    Padding: zero boxes of category 1, because the official code adds 1 to every class. Of equal scores the lower class,
    then the lower anchor comes first; TensorFlow leaves that order to its sort.
    """

    score_threshold: float = float("-inf")
    max_outputs: int = 100
    choose: Choose = choose_lazily

    def __call__(self, candidates: Candidates) -> Detections:
        boxes, scores, classes, box_of = candidates
        hard = Hard(0.5, self.score_threshold)
        chosen = self.choose(boxes, scores, classes, box_of, hard, self.max_outputs)
        return _padded(gathered(candidates, chosen), category=CATEGORY_OFFSET)


def gathered(candidates: Candidates, chosen: Chosen) -> Detections:
    """Boxes, scores and categories of the chosen candidates; the rest are candidate 0's, of score 0."""
    box_of = torch.gather(candidates.box_of, 1, chosen.candidates)
    boxes = torch.gather(candidates.boxes, 1, box_of[..., None].expand(-1, -1, 4))
    classes = torch.gather(candidates.classes, 1, chosen.candidates) + CATEGORY_OFFSET
    return Detections(boxes, chosen.scores, classes, chosen.valid)


def _padded(detections: Detections, category: int) -> Detections:
    """The same with zero boxes of `category` in the rows beyond the valid ones."""
    rows = torch.arange(detections.scores.shape[1], device=detections.valid.device)
    valid = rows < detections.valid[:, None]
    return detections._replace(
        boxes=torch.where(valid[..., None], detections.boxes, 0.0),
        classes=torch.where(valid, detections.classes, category),
    )
