"""What ports do otherwise between a picture's bytes and detections, as changes of effconv's own stages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.anchors import decode_boxes, legacy_anchors
from ...effdet_torch.postprocessing.candidates import TopPairs, best_class
from ...effdet_torch.postprocessing.detections import Detections
from ...effdet_torch.postprocessing.nms import Candidates, PerClass, gathered
from ...effdet_torch.postprocessing.suppression import Hard
from ...effdet_torch.preprocessing.decode import decode_with_pillow
from ...effdet_torch.preprocessing.resize import Size, resize_antialiased
from .port_stages import Change, Outputs, OwnStages, Values

PILLOW_DECODING = Change(
    "decoded picture",
    "decodes JPEG with the accurate inverse DCT, as Pillow does, not with TensorFlow's fast one",
    lambda own: replace(own, decode=decode_with_pillow),
)
ANTIALIASED = Change(
    "input",
    "resizes with Pillow's bilinear filter, which averages when it shrinks and rounds to whole levels",
    lambda own: replace(own, resize=resize_antialiased),
)
LEGACY_ANCHORS = Change(
    "anchors",
    "its anchors have the aspects (1.4, 0.7) and (0.7, 1.4) of the official code before 2020-09-10",
    lambda own: own.post(anchors=legacy_anchors),
)
BEST_CLASS = Change(
    "detections",
    "takes the best class of each anchor, not the best 5000 pairs of anchor and class",
    lambda own: own.post(candidates=best_class),
)
KEEP_ALL = 10**6  # detections: more than any picture has above a threshold


def padding(colour: tuple[int, int, int]) -> Change:
    """The input's padding has this colour."""
    sentence = f"pads with the colour {colour} before normalising, not with zero after it"
    return Change("input", sentence, lambda own: replace(own, padding=colour))


def normalising(mean: Sequence[float], std: Sequence[float]) -> Change:
    """Other numbers (3,) of levels to normalise by."""
    numbers = [tuple(float(np.float32(each)) for each in values) for values in (mean, std)]

    def make(own: OwnStages) -> OwnStages:
        (red, green, blue), (of_red, of_green, of_blue) = numbers
        return replace(own, config=replace(own.config, mean=(red, green, blue), std=(of_red, of_green, of_blue)))

    sentence = f"normalises by a mean of {numbers[0]} and a deviation of {numbers[1]}"
    return Change("input", sentence, make)


def whole_pixel_scale(stage: str) -> Change:
    """Sizes from float64, and a scale for each axis: of whole pixels."""

    def fit(picture: Size, target: Size) -> tuple[Size, Values]:
        height, width = picture
        size = (
            (int(target[1] / width * height), target[1])
            if width > height
            else (target[0], int(target[0] / height * width))
        )
        return size, np.array([old / new for old, new in zip(picture, size, strict=True)])

    sentence = "scales each side by its own whole pixels, from sizes computed in float64"
    return Change(stage, sentence, lambda own: replace(own, fit=fit))


def float64_fit(picture: Size, target: Size) -> tuple[Size, Values]:
    """As the official code, but in float64: sometimes one pixel more."""
    scale = min(wanted / given for wanted, given in zip(target, picture, strict=True))
    return (int(picture[0] * scale), int(picture[1] * scale)), np.array([1 / scale] * 2)


FLOAT64_SIZE = Change(
    "input",
    "computes the scaled size in float64, which here is another than the official float32 gives",
    lambda own: replace(own, fit=float64_fit),
)


def hard(iou: float, score: float = -math.inf, most: int = 100) -> Change:
    """Suppression that drops boxes in place of lowering their scores."""
    kept = "every detection" if most == KEEP_ALL else f"the best {most}"
    above = "" if score == -math.inf else f" above a score of {score:g}"
    sentence = f"suppresses hard, per class, at an overlap of {iou:g}, and keeps {kept}{above}: no soft-NMS"
    return Change("detections", sentence, lambda own: own.post(nms=PerClass(Hard(iou, score), most)))


@dataclass(frozen=True)
class MovedApart(PerClass):
    """Classes told apart by moving each one's boxes beyond the farthest corner, in float32."""

    def __call__(self, candidates: Candidates) -> Detections:
        boxes, _, classes, box_of = candidates
        each = torch.gather(boxes, 1, box_of[..., None].expand(-1, -1, 4))
        moved = each + (classes * (each.amax() + 1))[..., None]
        own = torch.arange(classes.shape[1]).expand(classes.shape)
        chosen = self.choose(
            moved, candidates.scores, torch.zeros_like(classes), own, self.suppression, self.max_outputs
        )
        return gathered(candidates, chosen)


def _moved_apart(own: OwnStages) -> OwnStages:
    nms = own.postprocess.nms
    assert isinstance(nms, PerClass)
    return own.post(nms=MovedApart(nms.suppression, nms.max_outputs))


MOVED_APART = Change(
    "detections",
    "tells classes apart by adding a multiple of the largest coordinate to their boxes, which rounds corners and lets "
    "boxes beyond the picture's edge reach into the class before",
    _moved_apart,
)


def top_pairs(count: int) -> Change:
    """Another number of candidates."""
    sentence = f"takes the best {count} pairs of anchor and class, not 5000"
    return Change("detections", sentence, lambda own: own.post(candidates=TopPairs(count)))


class ClampedSizes(NamedTuple):
    """Decoding with size codes cut off at `limit`, either way."""

    limit: float

    def __call__(self, codes: Tensor, anchors: Tensor) -> Tensor:
        return decode_boxes(torch.cat([codes[..., :2], codes[..., 2:].clamp(-self.limit, self.limit)], -1), anchors)


def clamped_sizes(stage: str, limit: float) -> Change:
    """Size codes that are cut off."""
    sentence = f"cuts size codes off at {limit:g} either way"
    return Change(stage, sentence, lambda own: own.post(decode=ClampedSizes(limit)))


def clipped_to_picture() -> Change:
    """Boxes cut off at the picture's edges."""

    def clip(boxes: Tensor, outputs: Outputs) -> Tensor:
        limits = boxes.new_tensor([side / outputs.scale for side in outputs.picture])
        return torch.minimum(boxes.clamp(min=0), limits.repeat(2))

    sentence = "cuts boxes off at the picture's edges before suppression"
    return Change("detections", sentence, lambda own: replace(own, clip=clip))


def clipped_at_last_pixel(config: Config) -> Change:
    """Low corners to zero, high corners to the last pixel of the input."""

    def clip(boxes: Tensor, outputs: Outputs) -> Tensor:
        limits = boxes.new_tensor([side - 1 for side in config.image_size])
        return torch.cat([boxes[..., :2].clamp(min=0), torch.minimum(boxes[..., 2:], limits)], -1)

    sentence = "cuts boxes off before suppression: low corners at 0, high corners at the input's last pixel"
    return Change("detections", sentence, lambda own: replace(own, clip=clip))
