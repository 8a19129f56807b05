"""Encoded image bytes -> (H, W, 3) uint8 RGB: exactly what TensorFlow's `tf.io.decode_image` gives, or an error."""

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from .bmp import decode_bmp
from .gif import decode_gif
from .image_size import MAX_BYTES, damaged, require_size, undecodable
from .jpeg import decode_jpeg
from .png import decode_png

# By the first bytes, as TensorFlow tells formats apart; a file's name is never asked.
DECODERS = {
    b"\xff\xd8\xff": decode_jpeg,
    b"\x89PNG\r\n\x1a\n": decode_png,
    b"GIF8": decode_gif,
    b"BM": decode_bmp,
}


def decode(encoded: bytes, *, name: str = "image") -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, bit for bit `tf.io.decode_image(encoded, channels=3, expand_animations=False)`.

    JPEG, PNG, BMP and the first frame of a GIF. EXIF orientation is ignored and transparency dropped, as TensorFlow
    does. `name` is what errors call the image. Raises ImageError for bytes that TensorFlow refuses, for more than
    `image_size.MAX_PIXELS`, and for the few kinds whose pixels cannot be had identically: never other pixels.
    """
    for magic, decoder in DECODERS.items():
        if encoded.startswith(magic):
            return decoder(encoded, name)
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        raise undecodable(name, "a WebP")
    raise damaged(name, "neither JPEG, PNG, GIF nor BMP" if encoded else "no bytes")


def decode_with_pillow(encoded: bytes, *, name: str = "image") -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB as Pillow decodes it: the accurate integer DCT. What most ports do; up to 9 levels from
    TensorFlow's pixels in a JPEG.

    Raises ImageError for what Pillow cannot read and for more than `image_size.MAX_PIXELS`.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            require_size(*image.size, name)
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise damaged(name, str(error)) from error


def read_encoded(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file. Raises ImageError when it cannot be read or is larger than `image_size.MAX_BYTES`."""
    try:
        with Path(path).open("rb") as file:
            encoded = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageError(
            f"{os.fspath(path)}: not a readable image ({error.strerror or error}); give the path of an image file"
        ) from error
    if len(encoded) > MAX_BYTES:
        raise ImageError(f"{os.fspath(path)}: not a readable image (above {MAX_BYTES:,} bytes); scale it down first")
    return encoded
