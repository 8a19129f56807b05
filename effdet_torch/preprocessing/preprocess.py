"""Encoded image -> the network's input, bit for bit as the official pipeline makes it.

Decode, normalise in float32, resize (bilinear, half-pixel centres, no antialiasing), pad bottom and right. Decoding and
resizing are functions that can be replaced from outside; the defaults are the official ones. Source: google/automl
`efficientdet/dataloader.py: DetectionInputProcessor` and `inference.py: image_preprocess`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from ..config import Config, get_config
from .decode import decode, read_encoded
from .resize import Normalise, Pixels, Planes, Size, resize_bilinear

if TYPE_CHECKING:
    from torch import Tensor

    from ..network import Network


class Decode(Protocol):
    """Encoded bytes -> (H, W, 3) uint8 RGB."""

    def __call__(self, encoded: bytes, *, name: str) -> Pixels: ...


# (pixels, normalise, out): an alternative decides whether it normalises before or after it resizes.
Resize = Callable[[Pixels, Normalise, Planes], None]


def scaled_size(size: Size, target: Size) -> tuple[Size, np.float32]:
    """((height, width) an image of `size` is resized to so that it fits `target`, scale from there to `size`).

    In float32 and cut off, as `set_scale_factors_to_output_size` does: often one pixel less than exact arithmetic.
    A side may come out as 0.
    """
    height, width = (np.float32(side) for side in size)
    scale = min(np.float32(target[0]) / height, np.float32(target[1]) / width)
    return (int(height * scale), int(width * scale)), np.float32(1) / scale


def normalisation(config: Config) -> Normalise:
    """(H, W, 3) uint8 -> (3, H, W) float32: subtract the mean, divide by the standard deviation, each rounded.

    AdvProp models (`config.unit_range`) are only cast here; theirs is scaled after padding.
    """
    if config.unit_range:
        return to_planes
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (config.mean, config.std))

    def normalise(pixels: Pixels) -> Planes:
        planes = to_planes(pixels)
        planes -= mean
        planes /= std
        return planes

    return normalise


def to_planes(pixels: Pixels) -> Planes:
    """(H, W, 3) uint8 -> (3, H, W) float32 of the same values."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)


@dataclass(frozen=True)
class Preprocessor:
    """Encoded image -> (image, scale), as `config`'s model expects it; `dataclasses.replace` swaps a step.

    `size` is the (height, width) of the result, the model's own when None.
    """

    config: Config
    size: Size | None = None
    decode: Decode = decode
    resize: Resize = resize_bilinear

    def __call__(self, encoded: bytes, *, name: str = "image") -> tuple[NDArray[np.float32], np.float32]:
        """((3, H, W) float32, float32 original pixels per pixel of the result).

        `name` is what errors call the image. Raises ImageError for what cannot be decoded, and for an image so narrow
        that no pixel of its shorter side would be left.
        """
        return self.of_pixels(self.decode(encoded, name=name), name=name)

    def of_pixels(self, pixels: Pixels, *, name: str = "image") -> tuple[NDArray[np.float32], np.float32]:
        """The same of an image that is decoded already, (H, W, 3) uint8 RGB."""
        target = self.size or self.config.image_size
        size = (pixels.shape[0], pixels.shape[1])
        fitted, scale = scaled_size(size, target)
        if 0 in fitted:
            raise ImageError(
                f"{name}: {size[1]} x {size[0]} pixels would be resized to {fitted[1]} x {fitted[0]}; "
                f"crop it, or choose a larger input than {target[1]} x {target[0]}"
            )
        image = np.zeros((3, *target), np.float32)  # what is not covered stays 0, the mean colour
        self.resize(pixels, normalisation(self.config), image[:, : fitted[0], : fitted[1]])
        if self.config.unit_range:
            # After padding, which so becomes -1. `dataloader.py` has image * 2 / 255: the same, as doubling is exact.
            image /= np.float32(127.5)
            image -= np.float32(1)
        return image, scale


def preprocess(
    source: bytes | str | os.PathLike[str], model: "str | Config | Network", *, size: Size | None = None
) -> "tuple[Tensor, float]":
    """((3, H, W) float32 tensor, original pixels per pixel of it) of an image file's bytes or path.

    `model` is a name, a JSON file, a Config or a loaded model; `size` another (height, width) than its own. Raises
    ImageError for what cannot be read or decoded exactly as TensorFlow does, ConfigError for an unknown model.
    """
    import torch

    config = get_config(model) if isinstance(model, str | Config) else model.config
    preprocessor = Preprocessor(config, size)
    if isinstance(source, bytes):
        image, scale = preprocessor(source)
    else:
        image, scale = preprocessor(read_encoded(source), name=os.fspath(source))
    return torch.from_numpy(image), float(scale)
