"""Outputs of heads as a trained network gives them, made up from true boxes: for where no trained weights are at hand.

Outputs of random weights decide little about suppression: whole areas of a picture have one score to within rounding,
or hardly two boxes of a class overlap.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.anchors import encode_boxes, feature_sizes, official_anchors
from .port_stages import Levels

BACKGROUND, OBJECT = -6.0, 9.0  # mean logits, of no overlap and added by a whole one
LOGIT_NOISE, CODE_NOISE = 0.7, 0.1


def outputs_of_objects(config: Config, boxes: Tensor, classes: Sequence[int], seed: int = 0) -> tuple[Levels, Levels]:
    """(class logits, box codes) by level of one picture with objects at `boxes` (N, 4), N at least 1, of `classes`.

    A class's logit grows with an anchor's overlap with its objects, codes lead to the object nearest; both have noise.
    """
    random, anchors = torch.Generator().manual_seed(seed), official_anchors(config)
    overlaps = _overlaps(anchors, boxes)
    logits = BACKGROUND + LOGIT_NOISE * torch.randn(len(anchors), config.num_classes, generator=random)
    for place, label in enumerate(classes):
        logits[:, label] += OBJECT * overlaps[:, place]
    codes = encode_boxes(boxes[overlaps.argmax(1)], anchors)
    # An anchor without an object has codes near zero, as training leaves them.
    codes = torch.where(overlaps.amax(1, keepdim=True) > 0.1, codes, 0.0)
    codes += CODE_NOISE * torch.randn(codes.shape, generator=random)
    return _by_level(logits, config), _by_level(codes, config)


def _overlaps(anchors: Tensor, boxes: Tensor) -> Tensor:
    low = torch.maximum(anchors[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(anchors[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(each[:, 2:] - each[:, :2]).prod(-1) for each in (anchors, boxes)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def _by_level(values: Tensor, config: Config) -> list[Tensor]:
    """(N, values) as maps (1, A*values, h, w)."""
    sizes = feature_sizes(config)
    parts = torch.split(values, [height * width * config.num_anchors for height, width in sizes])
    return [
        part.reshape(1, height, width, -1).permute(0, 3, 1, 2).contiguous()
        for part, (height, width) in zip(parts, sizes, strict=True)
    ]
