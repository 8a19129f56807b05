"""Anchor boxes, and the coding of boxes relative to them. Boxes are [ymin, xmin, ymax, xmax] in input pixels.

Paper: EfficientDet, section 4.1 (anchors of RetinaNet). Source: google/automl `tf2/anchors.py: Anchors,
decode_box_outputs`; `object_detection/faster_rcnn_box_coder.py`.
"""

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import Config
from . import eigen

CODING_EPSILON = 1e-8  # smallest side that encode_boxes divides by or takes the logarithm of
# (width, height) factors that the official code used for aspects 1, 2 and 1/2 until 2020-09-10. They are one percent
# off sqrt(2), so results published before then were made with other boxes.
LEGACY_ASPECTS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))


def official_anchors(config: Config) -> Tensor:
    """Anchors of every level of `config`: (N, 4) float32, lowest level first.

    Order within a level: row, column, octave, aspect ratio. Where the image size is no multiple of a stride, the stride
    of that level is image size / feature size, a fraction. The tensor is shared between callers: do not write to it.
    """
    roots = [np.sqrt(ratio) for ratio in config.aspect_ratios]
    return _anchors(config, tuple((float(root), float(1.0 / root)) for root in roots))


def legacy_anchors(config: Config) -> Tensor:
    """The anchors of the official code before 2020-09-10: LEGACY_ASPECTS in place of `config.aspect_ratios`."""
    return _anchors(config, LEGACY_ASPECTS)


@functools.lru_cache(maxsize=8)
def _anchors(config: Config, aspects: tuple[tuple[float, float], ...]) -> Tensor:
    levels = [_level_anchors(config, size, aspects) for size in feature_sizes(config)]
    return torch.from_numpy(np.concatenate(levels).astype(np.float32))


def feature_sizes(config: Config) -> list[tuple[int, int]]:
    """(height, width) of every level's maps, lowest level first: the image size halved, rounding up, level times."""
    height, width = config.image_size
    return [(math.ceil(height / 2**level), math.ceil(width / 2**level)) for level in config.levels]


def _level_anchors(
    config: Config, feature_size: tuple[int, int], aspects: tuple[tuple[float, float], ...]
) -> NDArray[np.float64]:
    image = config.image_size
    strides = [side / cells for side, cells in zip(image, feature_size, strict=True)]
    # In float64, rounded once at the end, and arange as it is: the official code does the same.
    rows, columns = (np.arange(stride / 2, side, stride) for stride, side in zip(strides, image, strict=True))
    y, x = (centre.ravel() for centre in np.meshgrid(rows, columns, indexing="ij"))
    boxes = []
    for octave in range(config.num_scales):
        height, width = (config.anchor_scale * stride * 2 ** (octave / config.num_scales) for stride in strides)
        for wider, higher in aspects:
            dy, dx = height * higher / 2.0, width * wider / 2.0
            boxes.append(np.stack([y - dy, x - dx, y + dy, x + dx], axis=1))  # (cells, 4)
    return np.stack(boxes, axis=1).reshape(-1, 4)


def decode_boxes(codes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes that `codes` [ty, tx, th, tw] (..., 4) stand for, relative to `anchors` (..., 4), of one shape.

    The size codes th, tw are logarithms and are not clamped: a code above 88.7 gives an infinite side.
    """
    # One operation at a time, in TensorFlow's order: this is what makes the boxes equal bit for bit.
    ymin, xmin, ymax, xmax = anchors.unbind(-1)
    ty, tx, th, tw = codes.unbind(-1)
    height, width = ymax - ymin, xmax - xmin
    half_h, half_w = eigen.exp(th) * height / 2, eigen.exp(tw) * width / 2
    y = ty * height + (ymin + ymax) / 2
    x = tx * width + (xmin + xmax) / 2
    return torch.stack([y - half_h, x - half_w, y + half_h, x + half_w], dim=-1)


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Codes [ty, tx, th, tw] (..., 4) of `boxes` relative to `anchors`; the inverse of `decode_boxes`.

    Sides shorter than CODING_EPSILON count as that long, so that an empty box has finite codes.
    """
    y, x, height, width = _centre_and_size(boxes)
    anchor_y, anchor_x, anchor_height, anchor_width = _centre_and_size(anchors)
    return torch.stack(
        [
            (y - anchor_y) / anchor_height,
            (x - anchor_x) / anchor_width,
            torch.log(height / anchor_height),
            torch.log(width / anchor_width),
        ],
        dim=-1,
    )


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ymin, xmin, ymax, xmax = boxes.unbind(-1)
    height, width = ymax - ymin, xmax - xmin
    sides = height.clamp(min=CODING_EPSILON), width.clamp(min=CODING_EPSILON)
    return ymin + height / 2, xmin + width / 2, *sides
