"""An image and its boxes for training: mirrored, scaled at random and cut, exactly as the official input is.

Source: google/automl `efficientdet/dataloader.py: InputReader.dataset_parser, InputProcessor, DetectionInputProcessor`,
`object_detection/preprocessor.py: random_horizontal_flip`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from ..config import Config
from ..preprocessing.preprocess import normalisation
from ..preprocessing.resize import Pixels, Planes, resize_window

Boxes = NDArray[np.float32]  # (N, 4) [ymin, xmin, ymax, xmax]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is drawn at random; the defaults are the official configuration's.

    An image is scaled so that it fits `jitter_min` to `jitter_max` times the input's size, uniformly.
    """

    flip: bool = True
    jitter_min: float = 0.1
    jitter_max: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.jitter_min <= self.jitter_max <= 10:
            raise ValueError(
                f"jitter must be 0 < minimum <= maximum <= 10, found {self.jitter_min} to {self.jitter_max}"
            )


class Draws(NamedTuple):
    """What was drawn for one image: whether to mirror it, its scale, and where to cut it, of 0 to 1 of what is over."""

    flip: bool
    scale: np.float32
    offset_y: np.float32
    offset_x: np.float32


class Example(NamedTuple):
    """An image as the network takes it, (3, H, W), and what is in it: boxes in its pixels, classes from 0."""

    image: Planes
    boxes: Boxes
    classes: NDArray[np.int64]


def draw(augmentation: Augmentation, generator: np.random.Generator) -> Draws:
    """Draw for one image; always as many numbers."""
    flip, scale, offset_y, offset_x = generator.random(4, np.float32)
    low, high = np.float32(augmentation.jitter_min), np.float32(augmentation.jitter_max)
    return Draws(bool(augmentation.flip and flip > 0.5), low + scale * (high - low), offset_y, offset_x)


def augment(
    pixels: Pixels, boxes: NDArray[np.float64], classes: NDArray[np.int64], config: Config, draws: Draws
) -> Example:
    """An image (H, W, 3) uint8 and its `boxes` (N, 4) [ymin, xmin, ymax, xmax] in its pixels, as drawn.

    All in float32 and cut off to whole pixels where the official code does. Boxes are clipped to the last pixel's
    number, one less than the size; what has no area then is left out. Raises ImageError when nothing of the image would
    be left.
    """
    given = pixels.shape[:2]
    shares = (boxes / np.array([*given, *given], np.float64)).astype(np.float32)
    if draws.flip:
        pixels = pixels[:, ::-1]
        shares = np.stack([shares[:, 0], 1 - shares[:, 3], shares[:, 2], 1 - shares[:, 1]], 1)
    scaled = scaled_size(given, config.image_size, draws.scale)
    if 0 in scaled:
        raise ImageError(
            f"{given[1]} x {given[0]} pixels would be resized to {scaled[1]} x {scaled[0]}; use a larger least scale",
            parameters={"jitter": None},
        )
    offset = [
        int(max(np.float32(0), np.float32(had - has)) * share)
        for had, has, share in zip(scaled, config.image_size, (draws.offset_y, draws.offset_x), strict=True)
    ]
    image = np.zeros((3, *config.image_size), np.float32)
    window = image[:, : scaled[0] - offset[0], : scaled[1] - offset[1]]
    resize_window(pixels, normalisation(config), scaled, (offset[0], offset[1]), window)
    if config.unit_range:
        image /= np.float32(127.5)
        image -= np.float32(1)
    moved = shares * np.array([*scaled, *scaled], np.float32) - np.array([*offset, *offset], np.float32)
    last = np.array([*config.image_size, *config.image_size], np.float32) - 1
    clipped = np.clip(moved, 0, last)
    there = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1]) != 0
    return Example(image, clipped[there], classes[there])


def scaled_size(given: tuple[int, int], target: tuple[int, int], scale: np.float32) -> tuple[int, int]:
    """(height, width) of an image of `given` size that is to fit `scale` times `target`."""
    wanted = [np.float32(int(scale * np.float32(side))) for side in target]
    factor = min(side / np.float32(had) for side, had in zip(wanted, given, strict=True))
    return int(np.float32(given[0]) * factor), int(np.float32(given[1]) * factor)


def unchanged(pixels: Pixels, boxes: NDArray[np.float64], classes: NDArray[np.int64], config: Config) -> Example:
    """The example without augmentation: the image as evaluation sees it."""
    return augment(pixels, boxes, classes, config, Draws(False, np.float32(1), np.float32(0), np.float32(0)))
