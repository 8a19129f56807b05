"""GIF bytes -> RGB pixels of the first frame, as TensorFlow (through giflib) decodes them.

The blocks are walked here, because Pillow passes over damage for which TensorFlow refuses a file, and pads a palette
that is too short. Pillow then decodes a file rebuilt from the first frame alone, so that nothing else can change it.
A first frame with a transparent colour is refused: TensorFlow's releases differ there (black, or the palette's colour).
Source: TensorFlow `core/lib/gif/gif_io.cc: Decode`; CompuServe's GIF89a specification, sections 17 to 23.
"""

import io
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .image_size import damaged, require_size, undecodable

IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B
GRAPHIC_CONTROL = 0xF9
INTERLACED = 0x40


class Frame(NamedTuple):
    """One image of a GIF; `data` are its coded indices, from the byte that tells their size to the empty block."""

    left: int
    top: int
    width: int
    height: int
    flags: int
    palette: bytes
    data: bytes
    transparent: bool


def decode_gif(encoded: bytes, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of the first frame of a GIF.

    Raises ImageError for a damaged file, for one beyond the limits of `image_size`, and for a first frame that has a
    transparent colour or is not the whole picture.
    """
    try:
        frames = _frames(encoded)
    except (IndexError, struct.error) as error:
        raise damaged(name, "GIF: it ends early") from error
    except ValueError as error:
        raise damaged(name, f"GIF: {error}") from error
    first = frames[0]
    require_size(first.width, first.height, name)
    if first.transparent:
        raise undecodable(name, "a GIF with a transparent colour")
    if first.left or first.top or any(frame.width > first.width or frame.height > first.height for frame in frames):
        raise undecodable(name, "a GIF whose first frame is not its whole picture")
    indices = _indices(first, name)
    table = np.frombuffer(first.palette, np.uint8).reshape(-1, 3)
    if indices.max() >= len(table):
        raise damaged(name, f"GIF: colour {indices.max()} of a palette of {len(table)}")
    return table[indices]


def _indices(frame: Frame, name: str) -> NDArray[np.uint8]:
    """(H, W) numbers of colours. Without a palette Pillow gives the numbers themselves."""
    from PIL import Image

    screen = struct.pack("<HH3x", frame.width, frame.height)
    place = struct.pack("<cHHHHB", b",", 0, 0, frame.width, frame.height, frame.flags & INTERLACED)
    try:
        with Image.open(io.BytesIO(b"GIF89a" + screen + place + frame.data + b";"), formats=("GIF",)) as image:
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise damaged(name, f"GIF: its image data are damaged: {error}") from error


def _frames(encoded: bytes) -> list[Frame]:
    """Every frame. Raises IndexError or struct.error at the end of the bytes, ValueError for what is wrong."""
    if encoded[:6] not in (b"GIF87a", b"GIF89a"):
        raise ValueError(f"version {encoded[3:6]!r}")
    everyone, position = _palette(encoded, 10, 13)
    frames, transparent = [], False
    while (kind := encoded[position]) != TRAILER:
        if kind == IMAGE:
            left, top, width, height, flags = struct.unpack_from("<HHHHB", encoded, position + 1)
            own, start = _palette(encoded, position + 9, position + 10)
            palette = own or everyone
            if not palette:
                raise ValueError("a frame without a palette")
            position = _skip_blocks(encoded, start + 1)
            data = encoded[start:position]
            frames.append(Frame(left, top, width, height, flags, palette, data, transparent))
        elif kind == EXTENSION:
            transparent |= encoded[position + 1] == GRAPHIC_CONTROL and bool(encoded[position + 3] & 1)
            position = _skip_blocks(encoded, position + 2)
        else:
            raise ValueError(f"an unknown block at byte {position}")
    if not frames:
        raise ValueError("no image in it")
    return frames


def _palette(encoded: bytes, flags_at: int, position: int) -> tuple[bytes, int]:
    """(the colours a flag byte announces, or nothing; the position after them)."""
    flags = encoded[flags_at]
    end = position + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    if end > len(encoded):
        raise IndexError
    return encoded[position:end], end


def _skip_blocks(encoded: bytes, position: int) -> int:
    while length := encoded[position]:
        position += 1 + length
    return position + 1
