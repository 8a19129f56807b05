"""BMP bytes -> RGB pixels, as TensorFlow reads them: the header's first fields, and no palette.

Source: TensorFlow `core/kernels/image/decode_image_op.cc: DecodeBmpV2`.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from .image_size import damaged, require_size, undecodable

LEAST = 32  # bytes TensorFlow asks for before it reads a header


def decode_bmp(encoded: bytes, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of an uncompressed BMP of 24 or 32 bits, or of 8 bits, whose bytes TensorFlow takes for grey.

    Raises ImageError where TensorFlow refuses: other depths, and a file that is not exactly header and rows.
    """
    if len(encoded) < LEAST:
        raise damaged(name, f"a BMP of {len(encoded)} bytes")
    (start,) = struct.unpack_from("<i", encoded, 10)
    width, height, _, depth = struct.unpack_from("<iihh", encoded, 18)
    channels = int(depth / 8)
    if channels not in (1, 3, 4):
        raise undecodable(name, f"a BMP of {depth} bits a pixel")
    require_size(width, abs(height), name)
    row = (channels * width + 3) // 4 * 4
    if start < 0 or len(encoded) != start + row * abs(height):
        raise damaged(name, f"a BMP whose {len(encoded)} bytes are not its header and {abs(height)} rows of {row}")
    rows = np.frombuffer(encoded, np.uint8, row * abs(height), start).reshape(abs(height), row)
    pixels = rows[:: 1 if height < 0 else -1, : width * channels].reshape(abs(height), width, channels)
    # Blue comes first; a fourth byte is alpha, and dropped.
    rgb = np.repeat(pixels, 3, axis=2) if channels == 1 else pixels[:, :, 2::-1]
    return np.ascontiguousarray(rgb)
