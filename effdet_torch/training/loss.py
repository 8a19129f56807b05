"""The official losses: focal for classes, Huber for box codes, optionally an IoU loss for boxes.

Papers: Focal Loss (Lin et al., 2017); GIoU (Rezatofighi et al., 2019); DIoU and CIoU (Zheng et al., 2020).
Source: google/automl `tf2/train_lib.py: FocalLoss, BoxLoss, BoxIouLoss, _detection_loss`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..postprocessing.anchors import decode_boxes
from ..postprocessing.candidates import flatten_levels
from .iou_loss import IouKind, iou_loss
from .targets import IGNORED, Targets

PART = 1 << 17  # logits looked at in one go, so that temporaries are small beside the logits themselves


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The defaults are those of the official configuration (`hparams_config.py`)."""

    alpha: float = 0.25
    gamma: float = 1.5  # at least 1, so that the gradient is finite
    label_smoothing: float = 0.0
    delta: float = 0.1  # where the Huber loss turns from quadratic to linear
    box_weight: float = 50.0
    iou_kind: IouKind | None = None
    iou_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.gamma < 1:
            raise ValueError(f"gamma must be at least 1, found {self.gamma}")


class Losses(NamedTuple):
    """Scalars. `total` is what is minimised, weight decay aside."""

    total: Tensor
    classes: Tensor
    boxes: Tensor
    iou: Tensor


def detection_loss(
    class_logits: Sequence[Tensor],
    box_codes: Sequence[Tensor],
    targets: Targets,
    anchors: Tensor,
    settings: LossSettings = LossSettings(),
) -> Losses:
    """The losses of a batch: the model's two lists, (B, A*C, h, w) and (B, A*4, h, w), and its targets (B, M).

    Everything is divided by the number of positive anchors of the whole batch plus one.
    """
    normaliser = targets.positives + 1.0
    codes = flatten_levels(box_codes, 4)  # (B, M, 4)
    per_level = [level.shape[2] * level.shape[3] * anchors_per_cell(codes, box_codes) for level in class_logits]
    classes = torch.stack(
        [
            focal_loss(logits, wanted, settings)
            for logits, wanted in zip(class_logits, torch.split(targets.classes, per_level, dim=1), strict=True)
        ]
    ).sum()
    classes = classes / normaliser
    boxes = huber_loss(codes, targets.codes, settings.delta) / (normaliser * 4.0)
    total = classes + settings.box_weight * boxes
    iou = total.new_zeros(())
    if settings.iou_kind:
        iou = box_iou_loss(codes, targets.codes, anchors, settings.iou_kind) / (normaliser * 4.0)
        total = total + settings.iou_weight * iou
    return Losses(total, classes, boxes, iou)


def anchors_per_cell(codes: Tensor, box_codes: Sequence[Tensor]) -> int:
    """Anchors at each position, from the codes' shapes."""
    return codes.shape[1] // sum(level.shape[2] * level.shape[3] for level in box_codes)


def huber_loss(codes: Tensor, wanted: Tensor, delta: float) -> Tensor:
    """Sum over all codes; those whose target is exactly 0 add nothing, as in the official code."""
    error = (wanted - codes).abs()
    loss = torch.where(error <= delta, 0.5 * error**2, delta * error - 0.5 * delta**2)
    return (loss * (wanted != 0)).sum()


def box_iou_loss(codes: Tensor, wanted: Tensor, anchors: Tensor, kind: IouKind) -> Tensor:
    """Sum over anchors of 1 - IoU of the boxes that codes and targets stand for.

    The official code blanks each coordinate of a box, not of a code, where the target's code is exactly 0.
    """
    mask = wanted != 0
    expanded = anchors.expand(codes.shape)
    boxes, true = (decode_boxes(each, expanded) * mask for each in (codes, wanted))
    return iou_loss(boxes, true, kind).sum()


def focal_loss(logits: Tensor, wanted: Tensor, settings: LossSettings) -> Tensor:
    """Sum of the focal loss of one level: logits (B, A*C, h, w), target classes (B, h*w*A)."""
    loss: Tensor = FocalLoss.apply(logits, wanted, settings.alpha, settings.gamma, settings.label_smoothing)  # type: ignore[no-untyped-call]
    return loss


class FocalLoss(torch.autograd.Function):
    """Sum of the focal loss over logits (B, A*C, h, w) and target classes (B, h*w*A), not normalised.

    The gradient is computed together with the loss, part by part, and kept in the logits' own type: besides the logits
    nothing of their size exists but the gradient, which is needed in the end. Its own derivative is not available.
    What is narrower than float32 is computed in float32.
    """

    @staticmethod
    def forward(
        context: Any, logits: Tensor, wanted: Tensor, alpha: float, gamma: float, label_smoothing: float
    ) -> Tensor:
        images, channels, height, width = logits.shape
        anchors = wanted.shape[1] // (height * width)
        count = channels // anchors
        gradient = torch.empty_like(logits)
        exact = torch.promote_types(logits.dtype, torch.float32)
        total = torch.zeros((), dtype=exact, device=logits.device)
        # (B, A, h, w): the anchors of a position vary fastest in the targets.
        grid = wanted.view(images, height, width, anchors).permute(0, 3, 1, 2)
        rows = max(1, PART // (count * height * width))
        for image in range(images):
            for start in range(0, anchors, rows):
                channel = slice(start * count, min(anchors, start + rows) * count)
                target = grid[image, start : start + rows]
                part = logits[image, channel].to(exact).view(len(target), count, height, width)
                loss, slope = focal(part, target, alpha, gamma, label_smoothing)
                total += loss
                gradient[image, channel] = slope.view(-1, height, width).to(gradient.dtype)
        # Not a saved tensor: it is handed on, and a second reference would make whoever receives it copy it.
        context.gradient = gradient
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        gradient, context.gradient = context.gradient, None
        if gradient is None:
            raise RuntimeError("the focal loss's gradient was taken before; compute the loss anew")
        return gradient.mul_(outer[0].to(gradient.dtype)), None, None, None, None


def focal(logits: Tensor, wanted: Tensor, alpha: float, gamma: float, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """(sum of the loss, its derivative by each logit) of logits (A, C, h, w) and target classes (A, h, w).

    loss = alpha_t * (1 - p_t)**gamma * cross entropy; smoothing concerns the cross entropy alone.
    """
    positive = torch.zeros_like(logits, dtype=torch.bool)
    positive.scatter_(1, wanted.clamp(min=0)[:, None], (wanted >= 0)[:, None])
    probability = torch.sigmoid(logits)
    smoothed = positive.to(logits.dtype) * (1.0 - label_smoothing) + 0.5 * label_smoothing
    cross_entropy = logits.clamp(min=0) - logits * smoothed + torch.log1p(torch.exp(-logits.abs()))
    miss = torch.where(positive, 1 - probability, probability)  # 1 - p_t
    weight = torch.where(positive, logits.new_full((), alpha), 1 - alpha) * (wanted != IGNORED)[:, None]
    power = miss ** (gamma - 1)
    # d miss / d logit is p (1 - p), downwards for a positive.
    turn = probability * (1 - probability) * torch.where(positive, -1.0, 1.0)
    loss = weight * power * miss * cross_entropy
    slope = weight * power * (gamma * turn * cross_entropy + miss * (probability - smoothed))
    return loss.sum(), slope
