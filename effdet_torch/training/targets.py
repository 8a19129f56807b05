"""True boxes -> what each anchor is to predict: the official matching of anchors with boxes.

Source: google/automl `tf2/anchors.py: AnchorLabeler`, `object_detection/argmax_matcher.py, target_assigner.py`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..postprocessing.anchors import encode_boxes

MATCHED_IOU = 0.5  # an anchor that overlaps a box by as much is to predict it
BACKGROUND = -1
IGNORED = -2  # an anchor whose class is nobody's business: it adds nothing to the class loss


class Targets(NamedTuple):
    """Per anchor, in the anchors' order: M anchors of one image, or (B, M) of a batch."""

    classes: Tensor  # (M,) int64: the class from 0, BACKGROUND or IGNORED
    codes: Tensor  # (M, 4) float32 [ty, tx, th, tw]; zeros where there is no box
    positives: Tensor  # () float32, anchors that have a box


def label_anchors(boxes: Tensor, classes: Tensor, anchors: Tensor) -> Targets:
    """Match `anchors` (M, 4) with true `boxes` (N, 4) float32 [ymin, xmin, ymax, xmax] of `classes` (N,), from 0.

    An anchor takes the box it overlaps most, if the intersection over union is at least MATCHED_IOU. Besides, each box
    is given the anchor that overlaps it most, whatever else that anchor overlaps; where two boxes want the same, the
    first has it. Of equal overlaps the first counts: a box that overlaps no anchor is so given the first of all.
    On the CPU, where images are read, row by row in numpy: several times faster than torch on all pairs.
    """
    box_of = np.full(len(anchors), BACKGROUND)
    largest = np.full(len(anchors), np.nextafter(MATCHED_IOU, 0, dtype=np.float32))  # as much is no match yet
    overlaps = intersection_over_union(boxes, anchors).numpy()
    for box, row in enumerate(overlaps):
        better = np.flatnonzero(row > largest)  # of equals, the first box keeps it
        largest[better], box_of[better] = row[better], box
    for box in range(len(boxes) - 1, -1, -1):  # backwards, so that the first box has the last word
        box_of[overlaps[box].argmax()] = box
    matched = torch.from_numpy(np.flatnonzero(box_of >= 0))
    theirs = torch.from_numpy(box_of)[matched]
    labels, codes = classes.new_full((len(anchors),), BACKGROUND), torch.zeros_like(anchors)
    labels[matched] = classes[theirs]
    codes[matched] = encode_boxes(boxes[theirs], anchors[matched])
    return Targets(labels, codes, anchors.new_tensor(len(matched)))


def intersection_over_union(boxes: Tensor, others: Tensor) -> Tensor:
    """(N, M) of boxes (N, 4) and (M, 4) [ymin, xmin, ymax, xmax]; 0 where they do not meet."""
    overlaps = np.zeros((len(boxes), len(others)), np.float32)
    columns = np.ascontiguousarray(others.numpy().T)
    ymin, xmin, ymax, xmax = columns
    for (top, left, bottom, right), row in zip(boxes.numpy(), overlaps, strict=True):
        heights = np.minimum(ymax, bottom)
        heights -= np.maximum(ymin, top)
        widths = np.minimum(xmax, right)
        widths -= np.maximum(xmin, left)
        meeting = np.flatnonzero((heights > 0) & (widths > 0))  # most do not
        intersections = heights[meeting] * widths[meeting]
        some = columns[:, meeting]
        unions = (bottom - top) * (right - left) + (some[2] - some[0]) * (some[3] - some[1]) - intersections
        row[meeting] = np.divide(intersections, unions, out=np.zeros_like(unions), where=intersections > 0)
    return torch.from_numpy(overlaps)


def batch_targets(targets: list[Targets]) -> Targets:
    """Targets of several images as those of a batch: (B, M), (B, M, 4) and the positives of all, ()."""
    classes, codes, positives = zip(*targets, strict=True)
    return Targets(torch.stack(classes), torch.stack(codes), torch.stack(positives).sum())
