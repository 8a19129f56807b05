"""The ways from a picture's bytes to detections that stand beside each other: TensorFlow's, effconv's, a port's own.

A side offers what its code offers: a stage that it has nothing for is None.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.detections import found
from ...effdet_torch.postprocessing.postprocess import Postprocessor, per_class
from ...effdet_torch.preprocessing.decode import decode
from ...effdet_torch.preprocessing.preprocess import Decode, Preprocessor, Resize, normalisation, scaled_size
from ...effdet_torch.preprocessing.resize import Pixels, Size, resize_bilinear
from ..reference.network import import_tensorflow
from ..reference.pipeline import (
    OfficialDetections,
    official_anchor_boxes,
    official_boxes,
    official_candidates,
    official_detections,
    official_input,
)

Values = NDArray[np.float64]
XY = [1, 0, 3, 2]  # y before x to x before y, and back
Levels = Sequence[Tensor]
Fit = Callable[
    [Size, Size], tuple[Size, Values]
]  # a picture's size, the input's -> scaled size, scales (2,) of y and x


class Outputs(NamedTuple):
    """What detections are made of, all of it official: outputs of the heads of one picture, and what belongs to it."""

    class_logits: Levels  # (1, A*C, h, w) by level
    box_codes: Levels  # (1, A*4, h, w)
    anchors: Tensor  # (N, 4) [ymin, xmin, ymax, xmax]
    scale: float  # pixels of the picture per pixel of the input
    picture: Size


class Stages(Protocol):
    """One side. Boxes are [ymin, xmin, ymax, xmax] in float32, pixels those of the input but where it is said."""

    @property
    def label(self) -> str:
        """Whose it is, with its version."""

    def pixels(self, encoded: bytes) -> Pixels | None:
        """(H, W, 3) uint8 RGB of an image file's bytes."""

    def scale(self, picture: Size) -> Values | None:
        """(2,) pixels of a picture of that size per pixel of the input, down and across."""

    def input(self, pixels: Pixels) -> NDArray[np.float32] | None:
        """(1, 3, H, W) of a decoded picture."""

    def anchors(self) -> Tensor | None:
        """(N, 4), level by level, row by row, the anchors of a position together."""

    def boxes(self, codes: Tensor, anchors: Tensor) -> Tensor | None:
        """(N, 4) that codes [ty, tx, th, tw] (N, 4) stand for."""

    def detections(self, outputs: Outputs) -> OfficialDetections | None:
        """Boxes in pixels of the picture, scores, category ids, best first, without padding, as arrays."""


class Change(NamedTuple):
    """Something that a side does otherwise in one stage, and effconv's stages doing the same."""

    stage: str
    sentence: str
    make: "Callable[[OwnStages], OwnStages]"


class PortStages(NamedTuple):
    """A port's stages, and what its code says it does otherwise than the official one."""

    stages: Stages
    changes: Sequence[Change]


def official_fit(picture: Size, target: Size) -> tuple[Size, Values]:
    """How the official code scales a picture to fit: in float32, both sides alike."""
    size, scale = scaled_size(picture, target)
    return size, np.array([scale, scale], np.float64)


@dataclass(frozen=True, kw_only=True)
class OwnStages:
    """effconv's, of steps that changes replace. See Stages."""

    config: Config  # image_size is the input's
    postprocess: Postprocessor
    decode: Decode = decode
    fit: Fit = official_fit
    resize: Resize = resize_bilinear
    padding: tuple[int, int, int] | None = None  # RGB; None: zero, the mean colour
    clip: Callable[[Tensor, Outputs], Tensor] | None = None  # of decoded boxes, before suppression
    label = "effconv"

    @classmethod
    def official(cls, config: Config) -> "OwnStages":
        """As the official code evaluates."""
        return cls(config=config, postprocess=per_class(config))

    def post(self, **steps: Any) -> "OwnStages":
        """The same with other steps of the postprocessor."""
        return replace(self, postprocess=replace(self.postprocess, **steps))

    def pixels(self, encoded: bytes) -> Pixels:
        """See Stages."""
        return self.decode(encoded, name="picture")

    def scale(self, picture: Size) -> Values:
        """See Stages."""
        return self.fit(picture, self.config.image_size)[1]

    def input(self, pixels: Pixels) -> NDArray[np.float32]:
        """See Stages."""
        if self.padding is None and self.fit is official_fit:
            return Preprocessor(self.config, resize=self.resize).of_pixels(pixels)[0][None]
        target, normalise = self.config.image_size, normalisation(self.config)
        (height, width), _ = self.fit((pixels.shape[0], pixels.shape[1]), target)
        image = np.zeros((3, *target), np.float32)
        if self.padding is not None:
            image[...] = normalise(np.array(self.padding, np.uint8)[None, None])
        self.resize(pixels, normalise, image[:, :height, :width])
        return image[None]

    def anchors(self) -> Tensor:
        """See Stages."""
        return self.postprocess.anchors(self.config)

    def boxes(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """See Stages."""
        return self.postprocess.decode(codes, anchors)

    def detections(self, outputs: Outputs) -> OfficialDetections:
        """See Stages. By the official anchors."""
        postprocess, clip, decode = self.postprocess, self.clip, self.postprocess.decode
        if clip:
            postprocess = replace(postprocess, decode=lambda codes, anchors: clip(decode(codes, anchors), outputs))
        there = found(postprocess(outputs.class_logits, outputs.box_codes, torch.tensor([outputs.scale])), 0)
        return OfficialDetections(*(column[0].numpy() for column in there[:3]))


class TensorFlowStages:
    """The official operations in TensorFlow. Raises EffconvError without it. See Stages."""

    def __init__(self, config: Config):
        self.tensorflow = import_tensorflow()
        self.config, self.label = config, f"TensorFlow {self.tensorflow.__version__}"

    def pixels(self, encoded: bytes) -> Pixels:
        """See Stages."""
        decoded = self.tensorflow.io.decode_image(encoded, channels=3, expand_animations=False)
        return np.asarray(decoded.numpy())

    def scale(self, picture: Size) -> Values:
        """See Stages."""
        _, scale = official_input(_png(np.zeros((*picture, 3), np.uint8)), self.config)
        return np.array([float(scale)] * 2)

    def input(self, pixels: Pixels) -> NDArray[np.float32]:
        """See Stages."""
        image, _ = official_input(_png(pixels), self.config)
        return np.ascontiguousarray(image.numpy().transpose(2, 0, 1))[None]

    def anchors(self) -> Tensor:
        """See Stages."""
        return torch.from_numpy(official_anchor_boxes(self.config))

    def boxes(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """See Stages."""
        constant = self.tensorflow.constant
        return torch.from_numpy(official_boxes(constant(codes.numpy()), constant(anchors.numpy())).numpy())

    def detections(self, outputs: Outputs) -> OfficialDetections:
        """See Stages."""
        classes, codes = (
            [self.tensorflow.constant(level.permute(0, 2, 3, 1).numpy()) for level in maps]
            for maps in (outputs.class_logits, outputs.box_codes)
        )
        candidates = official_candidates(classes, codes, self.config)
        scale = np.float32(outputs.scale)
        columns = [each.numpy() for each in official_detections(candidates, scale, self.config.num_classes)]
        return OfficialDetections(*(column[columns[1] > 0] for column in columns))


def _png(pixels: Pixels) -> bytes:
    """The pixels in a file that loses nothing."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=1)
    return content.getvalue()


def detections_of_rows(rows: Tensor) -> OfficialDetections:
    """Of rows (N, 6) [xmin, ymin, xmax, ymax, score, category]."""
    return OfficialDetections(rows[:, XY].numpy(), rows[:, 4].numpy(), rows[:, 5].long().numpy())
