"""1 - IoU of pairs of boxes, and its generalised, distance and complete forms.

Papers: GIoU (Rezatofighi et al., 2019); DIoU and CIoU (Zheng et al., 2020). Source: google/automl `iou_utils.py`.
"""

import math
from typing import Literal

import torch
from torch import Tensor

IouKind = Literal["iou", "giou", "diou", "ciou"]


def iou_loss(boxes: Tensor, true: Tensor, kind: IouKind) -> Tensor:
    """(...) of boxes and true boxes (..., 4) [ymin, xmin, ymax, xmax]; 0 where the true box is empty."""
    exists = ((true[..., 2] > true[..., 0]) & (true[..., 3] > true[..., 1])).to(boxes.dtype)
    return exists * (1 - _similarity(boxes * exists[..., None], true * exists[..., None], kind))


def _similarity(boxes: Tensor, true: Tensor, kind: IouKind) -> Tensor:
    sides, true_sides = (_sides(each[..., :2], each[..., 2:]) for each in (boxes, true))
    shared = _sides(torch.maximum(boxes[..., :2], true[..., :2]), torch.minimum(boxes[..., 2:], true[..., 2:]))
    intersection = shared.prod(-1)
    union = sides.prod(-1) + true_sides.prod(-1) - intersection
    iou = _divide(intersection, union)
    if kind == "iou":
        return iou
    low, high = torch.minimum(boxes[..., :2], true[..., :2]), torch.maximum(boxes[..., 2:], true[..., 2:])
    if kind == "giou":
        around = _sides(low, high).prod(-1)
        return iou - _divide(around - union, around)
    apart = (true[..., :2] + true[..., 2:]) / 2 - (boxes[..., :2] + boxes[..., 2:]) / 2
    diou = iou - _divide((apart**2).sum(-1), ((high - low) ** 2).sum(-1))
    if kind == "diou":
        return diou
    # The official code's own gradient of this term reaches the true boxes alone, so for the others it is a constant.
    shape = _aspect_gap(sides, true_sides).detach()
    return diou - _divide(shape, 1 - iou + shape) * shape


def _aspect_gap(sides: Tensor, true_sides: Tensor) -> Tensor:
    """How differently two boxes are shaped: 0 for the same aspect, less than 1 for any."""
    angle, true_angle = (torch.atan(_divide(each[..., 1], each[..., 0])) for each in (sides, true_sides))
    return 4 * ((angle - true_angle) / math.pi) ** 2


def _sides(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0)


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and 0 with a gradient of 0 where the denominator is 0."""
    empty = denominator == 0
    return torch.where(empty, 0.0, numerator / torch.where(empty, 1.0, denominator))
