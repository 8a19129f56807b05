"""Which (anchor, class) pairs of a model's outputs go into non-maximum suppression: the official decoders.

Source: google/automl `tf2/postprocess.py: merge_class_box_level_outputs, topk_class_boxes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Selection(NamedTuple):
    """K (anchor, class) pairs of each image: (B, K) each, in the order in which suppression breaks ties of score."""

    logits: Tensor  # float32
    anchors: Tensor  # int64, index of the anchor
    classes: Tensor  # int64, from 0


def flatten_levels(outputs: Sequence[Tensor], values: int) -> Tensor:
    """Per-level outputs (B, A*values, h, w), lowest level first -> (B, N, values), N anchors in the anchors' order."""
    return torch.cat(
        # Channels last, so that anchors of one position follow each other; `values` of an anchor are adjacent channels.
        [torch.unflatten(level.permute(0, 2, 3, 1), 3, (-1, values)).flatten(1, 3) for level in outputs],
        dim=1,
    )


def chosen_codes(selection: Selection, codes: Tensor) -> Tensor:
    """Box codes (B, K, 4) of the selected pairs, of codes (B, N, 4) of all anchors."""
    return torch.gather(codes, 1, selection.anchors[..., None].expand(-1, -1, 4))


def best_class(logits: Tensor) -> Selection:
    """The best class of each anchor, (B, N, C) -> N pairs in the anchors' order; the first class where several tie.

    The official code's `max_nms_inputs = 0`.
    """
    best, classes = logits.max(dim=-1)
    return Selection(best, _positions(best), classes)


@dataclass(frozen=True)
class TopPairs:
    """The `count` pairs of the highest logits, (B, N, C) -> highest first; of equal logits the lower flat index first.

    The official code's `max_nms_inputs`; 5000 is what it evaluates COCO with. It leaves the order of equal logits to
    TensorFlow's top_k, which does not define it. Where there are fewer pairs than `count`, all are taken; the official
    code fails there.
    """

    count: int = 5000

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, found {self.count}: `best_class` is the other decoder")

    def __call__(self, logits: Tensor) -> Selection:
        anchors, classes = logits.shape[1:]
        # A pair among the top `count` belongs to an anchor among the top `count` by best class: each anchor before its
        # own has a pair before it. This leaves a tenth of D0's 4.4 million pairs to be ordered.
        best = _top(logits.amax(dim=-1), min(self.count, anchors))
        best = best.sort(dim=-1).values  # so that flat indices keep their order among the anchors that are left
        rows = torch.gather(logits, 1, best[..., None].expand(-1, -1, classes)).flatten(1)
        pairs = _top(rows, min(self.count, rows.shape[1]))
        return Selection(
            torch.gather(rows, 1, pairs),
            torch.gather(best, 1, torch.div(pairs, classes, rounding_mode="floor")),
            pairs % classes,
        )

    def of_levels(self, levels: Sequence[Tensor], classes: int) -> Selection | None:
        """The same of per-level outputs (B, A*C, h, w), lowest level first, read where they lie, compiled.

        None for what only tensor operations order: on other devices, in other types, in exported graphs, and NaN.
        """
        if (
            torch.compiler.is_compiling()
            or len(levels[0]) == 0
            or any(level.device.type != "cpu" or level.dtype != torch.float32 for level in levels)
        ):
            return None
        from .top_pairs import Level, pairs_of, top_pairs  # loads numba's compiler

        arrays = [_as_it_lies(level) for level in levels]
        logits, flat = [], []
        for image in range(len(levels[0])):
            of_image = [Level(bits[image], last) for bits, last in arrays]
            keys = top_pairs(of_image, levels[0].shape[1] // classes, classes, self.count)
            if keys is None:
                return None
            values, indices = pairs_of(keys)
            logits.append(values)
            flat.append(indices)
        pairs = torch.from_numpy(np.stack(flat))
        return Selection(
            torch.from_numpy(np.stack(logits)), torch.div(pairs, classes, rounding_mode="floor"), pairs % classes
        )


def _as_it_lies(level: Tensor) -> tuple[NDArray[np.int32], bool]:
    """The bits of an output (B, channels, h, w) as (B, h*w, channels) and True, or as (B, channels, h*w) and False."""
    array = level.detach().permute(0, 2, 3, 1)
    channels_first = level.is_contiguous() and not array.is_contiguous()
    array = level.detach() if channels_first else array.contiguous()
    return array.view(torch.int32).flatten(2 if channels_first else 1, 3 if channels_first else 2).numpy(), (
        not channels_first
    )


def all_pairs(logits: Tensor) -> Selection:
    """Every pair, (B, N, C) -> N*C, by anchor and then class: what the official combined suppression is given."""
    classes = logits.shape[2]
    pairs = logits.flatten(1)
    flat = _positions(pairs)
    return Selection(pairs, torch.div(flat, classes, rounding_mode="floor"), flat % classes)


def _positions(values: Tensor) -> Tensor:
    return torch.arange(values.shape[1], device=values.device).expand(values.shape)


def _top(values: Tensor, count: int) -> Tensor:
    """Indices (B, count) of the highest float32 `values` (B, K), highest first, of equal ones the lower index first.

    `torch.topk` alone leaves the order of equal values, and which of them are taken, to chance.
    """
    values = torch.where(values.isnan(), torch.inf, values)  # first, where it is noticed, whatever its sign bit
    bits = (values + 0.0).view(torch.int32).long()  # + 0.0 makes a zero of minus zero, which equals it
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    # No two keys are equal: the value in the upper 32 bits, the index, reversed, in the lower.
    keys = ordered * 2**32 + (2**32 - 1 - _positions(values))
    return 2**32 - 1 - (torch.topk(keys, count, dim=-1).values & 0xFFFFFFFF)
