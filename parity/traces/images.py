"""Images to compare on: seeded noise, or a photograph. Both sides get the same tensor."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...effdet_torch.config import Config
from ...effdet_torch.preprocessing.decode import read_encoded
from ...effdet_torch.preprocessing.preprocess import Preprocessor


def noise(seed: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """(1, 3, H, W): standard normal, the scale of normalised images. The same for a seed on every machine."""
    height, width = size
    values = np.random.RandomState(seed).standard_normal((1, height, width, 3)).astype(np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def photograph(path: Path, config: Config, size: tuple[int, int]) -> NDArray[np.float32]:
    """(1, 3, H, W): the image file as the official pipeline feeds it to a network of `config` and `size` (H, W).

    Raises ImageError for a file that cannot be read or decoded exactly as TensorFlow does.
    """
    image, _ = Preprocessor(config, size)(read_encoded(path), name=str(path))
    return image[None]


def drawn(seed: int, size: tuple[int, int]) -> bytes:
    """A JPEG of coloured blocks, `size` (H, W) pixels, for where no photograph is at hand."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (size[0] // 24 + 2, size[1] // 24 + 2, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(blocks).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(content, "JPEG", quality=92)
    return content.getvalue()
