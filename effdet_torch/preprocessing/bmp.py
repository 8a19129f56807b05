"""BMP bytes -> RGB pixels, as TensorFlow reads them: the header's first fields, and no palette.

Pillow's raw decoder unpacks the rows. Its BMP reader is not asked: it obeys fields that TensorFlow passes over
(palette, compression, masks), and fills in a file that TensorFlow refuses as too short.
Source: TensorFlow `core/kernels/image/decode_image_op.cc: DecodeBmpV2`.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from .image_size import damaged, require_size, undecodable

LEAST = 32  # bytes TensorFlow asks for before it reads a header
STORED = {1: "L", 3: "BGR", 4: "BGRX"}  # bytes a pixel: what they are to TensorFlow, in Pillow's names


def decode_bmp(encoded: bytes, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of an uncompressed BMP of 24 or 32 bits, or of 8 bits, whose bytes TensorFlow takes for grey.

    Raises ImageError where TensorFlow refuses: other depths, and a file that is not exactly header and rows.
    """
    if len(encoded) < LEAST:
        raise damaged(name, f"a BMP of {len(encoded)} bytes")
    (start,) = struct.unpack_from("<i", encoded, 10)
    width, height, _, depth = struct.unpack_from("<iihh", encoded, 18)
    channels = int(depth / 8)
    if channels not in STORED:
        raise undecodable(name, f"a BMP of {depth} bits a pixel")
    require_size(width, abs(height), name)
    row = (channels * width + 3) // 4 * 4
    if start < 0 or len(encoded) != start + row * abs(height):
        raise damaged(name, f"a BMP whose {len(encoded)} bytes are not its header and {abs(height)} rows of {row}")

    from PIL import Image

    mode, order = "L" if channels == 1 else "RGB", 1 if height < 0 else -1
    size = width, abs(height)
    return np.array(Image.frombytes(mode, size, encoded[start:], "raw", STORED[channels], row, order).convert("RGB"))
