"""Greedy suppression within groups of boxes as TensorFlow's kernel does it: hard and gaussian (soft-NMS).

Papers: Soft-NMS (Bodla et al., 2017). Source: google/automl `tf2/postprocess.py: nms`; TensorFlow
`core/kernels/image/non_max_suppression_op.cc: DoNonMaxSuppressionOp`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Soft-NMS: a box's score is multiplied by exp(-iou**2 / sigma) for every better box of its group.

    Boxes are dropped at a score of `score_threshold` or less. The official configuration's 0.0 means 0.001 here.
    """

    sigma: float = 0.5
    score_threshold: float = 0.001

    @property
    def decay(self) -> np.float32:
        """The factor of iou**2 in the exponent. TensorFlow's op computes -0.5 / its sigma and is given half of ours."""
        return np.float32(-0.5) / np.float32(self.sigma / 2)

    iou_threshold = 1.0  # has no effect in soft-NMS

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma must be above 0, found {self.sigma}: without decay it is hard suppression, Hard()")


@dataclass(frozen=True)
class Hard:
    """A box is dropped when it overlaps a better box of its group by more than `iou_threshold`.

    Boxes with a score of `score_threshold` or less are dropped. The official configuration's 0.0 means none is.
    """

    iou_threshold: float = 0.5
    score_threshold: float = -np.inf

    decay = np.float32(0)

    def __post_init__(self) -> None:
        if not 0 <= self.iou_threshold <= 1:
            raise ValueError(f"iou_threshold must be in 0..1, found {self.iou_threshold}")


Suppression = Gaussian | Hard
OFFICIAL = Gaussian()  # what the official evaluation uses


class Chosen(NamedTuple):
    """What survives in each image, best first; rows from `valid` on are zero."""

    candidates: Tensor  # (B, M) int64, indices of candidates
    scores: Tensor  # (B, M) float32, after suppression
    valid: Tensor  # (B,) int64


# boxes (B, P, 4); scores, groups and box_of (B, K), the box of each candidate; suppression; M.
Choose = Callable[[Tensor, Tensor, Tensor, Tensor, Suppression, int], Chosen]


def choose_lazily(
    boxes: Tensor, scores: Tensor, groups: Tensor, box_of: Tensor, suppression: Suppression, max_outputs: int
) -> Chosen:
    """The `max_outputs` best boxes of each image after suppression within groups: TensorFlow's bits, on the CPU.

    Of equal scores the lower group, then the lower index comes first. Tensors elsewhere are copied, which for 5000
    candidates is quicker than suppressing where they are.
    """
    from .lazy_heap import choose  # loads numba's compiler

    images = len(scores)
    chosen = np.zeros((images, max_outputs), np.int64)
    chosen_scores = np.zeros((images, max_outputs), np.float32)
    counts = np.zeros(images, np.int64)
    arrays = [tensor.detach().cpu().contiguous().numpy() for tensor in (boxes, scores, groups, box_of)]
    for image in range(images):
        image_groups = arrays[2][image]
        counts[image] = choose(
            *(array[image] for array in arrays),
            int(image_groups.max(initial=0)) + 1,
            suppression.decay,
            np.float32(suppression.iou_threshold),
            np.float32(suppression.score_threshold),
            chosen[image],
            chosen_scores[image],
        )
    return Chosen(*(torch.from_numpy(array).to(scores.device) for array in (chosen, chosen_scores, counts)))


def choose_batched(
    boxes: Tensor, scores: Tensor, groups: Tensor, box_of: Tensor, suppression: Suppression, max_outputs: int
) -> Chosen:
    """The same in tensor operations of fixed shapes, for export and other devices: M rounds over all candidates.

    Hard suppression gives the same bits as `choose_lazily`. In soft-NMS every score is multiplied by each decay as soon
    as it is known, which rounds in another order: scores are apart by up to 9 ulp, measured. Boxes must be finite.
    """
    order = torch.sort(groups, dim=-1, stable=True).indices  # argmax takes the first of equals: lowest group, index
    groups, live = torch.gather(groups, 1, order), torch.gather(scores, 1, order)
    boxes = torch.gather(boxes, 1, torch.gather(box_of, 1, order)[..., None].expand(-1, -1, 4))
    corners = [torch.minimum(boxes[..., :2], boxes[..., 2:]), torch.maximum(boxes[..., :2], boxes[..., 2:])]
    areas = (corners[1] - corners[0]).prod(-1)
    threshold = suppression.score_threshold
    gone = scores.new_tensor(-torch.inf)
    live = torch.where(live > threshold, live, gone)
    rows: list[tuple[Tensor, Tensor]] = []
    for _ in range(max_outputs):
        best = live.argmax(dim=-1, keepdim=True)  # (B, 1)
        rows.append((best, torch.gather(live, 1, best)))
        ious = _overlaps(corners, areas, best)
        if suppression.decay < 0:
            # In float64, rounded once: the C library's float32 exp, which TensorFlow calls, is that accurate.
            exponents = float(suppression.decay) * ious * ious
            weakened = live * exponents.double().exp().float()
            weakened = torch.where(weakened > threshold, weakened, gone)
        else:
            weakened = torch.where(ious > suppression.iou_threshold, gone, live)
        same = groups == torch.gather(groups, 1, best)
        live = torch.where(same, weakened, live).scatter(1, best, -torch.inf)
    best, kept = (torch.cat(column, dim=1) for column in zip(*rows, strict=True))
    valid = kept > -torch.inf
    return Chosen(torch.where(valid, torch.gather(order, 1, best), 0), torch.where(valid, kept, 0.0), valid.sum(dim=-1))


def _overlaps(corners: list[Tensor], areas: Tensor, best: Tensor) -> Tensor:
    """Intersection over union (B, K) of every box with the one of index `best` (B, 1) of its image."""
    low, high = (torch.gather(corner, 1, best[..., None].expand(-1, -1, 2)) for corner in corners)
    shared = (torch.minimum(corners[1], high) - torch.maximum(corners[0], low)).clamp(min=0).prod(-1)
    area = torch.gather(areas, 1, best)
    ious = shared / (area + areas - shared)
    return torch.where((area <= 0) | (areas <= 0), 0.0, ious)
