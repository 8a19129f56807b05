"""GIF bytes -> RGB pixels of the first frame, as TensorFlow (through giflib) decodes them.

A first frame with a transparent colour is refused: TensorFlow's releases differ there (black, or the palette's colour).
Source: TensorFlow `core/lib/gif/gif_io.cc: Decode`; CompuServe's GIF89a specification, sections 17 to 23 and appendix F
(LZW).
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .image_size import damaged, require_size, undecodable

IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B
GRAPHIC_CONTROL = 0xF9
MAX_CODES = 4096
# An interlaced frame stores rows in this order: (first row, step).
PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))


class Frame(NamedTuple):
    """One image of a GIF; `position` is where its coded data start."""

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: bytes
    position: int
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
    try:
        indices = _decompress(encoded, first)
    except (IndexError, ValueError) as error:
        raise damaged(name, "GIF: its image data are damaged") from error
    table = np.frombuffer(first.palette, np.uint8).reshape(-1, 3)
    if indices.max() >= len(table):
        raise damaged(name, f"GIF: colour {indices.max()} of a palette of {len(table)}")
    pixels = table[indices].reshape(first.height, first.width, 3)
    if not first.interlaced:
        return pixels
    order = [row for start, step in PASSES for row in range(start, first.height, step)]
    arranged = np.empty_like(pixels)
    arranged[order] = pixels
    return arranged


def _frames(encoded: bytes) -> list[Frame]:
    """Every frame's place. Raises IndexError or struct.error at the end of the bytes, ValueError for what is wrong."""
    if encoded[:6] not in (b"GIF87a", b"GIF89a"):
        raise ValueError(f"version {encoded[3:6]!r}")
    everyone, position = _palette(encoded, 10, 13)
    frames, transparent = [], False
    while (kind := encoded[position]) != TRAILER:
        if kind == IMAGE:
            left, top, width, height, flags = struct.unpack_from("<HHHHB", encoded, position + 1)
            own, position = _palette(encoded, position + 9, position + 10)
            palette = own or everyone
            if not palette:
                raise ValueError("a frame without a palette")
            frames.append(Frame(left, top, width, height, bool(flags & 0x40), palette, position, transparent))
            position = _skip_blocks(encoded, position + 1)
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


def _decompress(encoded: bytes, frame: Frame) -> NDArray[np.uint8]:
    """The frame's colour indices in stored order. Raises IndexError or ValueError for damaged data."""
    depth, position, parts = encoded[frame.position], frame.position + 1, []
    if not 2 <= depth <= 8:
        raise ValueError
    while length := encoded[position]:
        parts.append(encoded[position + 1 : position + 1 + length])
        position += 1 + length
    data, wanted = b"".join(parts), frame.width * frame.height
    clear, end = 1 << depth, (1 << depth) + 1
    entries = [bytes([value]) for value in range(clear)] + [b"", b""]
    table, output, size, previous, bits, held, at = list(entries), bytearray(), depth + 1, b"", 0, 0, 0
    while len(output) < wanted:
        while held < size:
            bits |= data[at] << held
            held, at = held + 8, at + 1
        code = bits & ((1 << size) - 1)
        bits, held = bits >> size, held - size
        if code == clear:
            table, size, previous = list(entries), depth + 1, b""
            continue
        # The one code that may be used before it is complete stands for the previous string and its own first value.
        string = previous + previous[:1] if code == len(table) < MAX_CODES and previous else table[code]
        if code == end:
            raise ValueError
        output += string
        if previous and len(table) < MAX_CODES:
            table.append(previous + string[:1])
            if len(table) == 1 << size and size < 12:
                size += 1
        previous = string
    if len(output) != wanted:
        raise ValueError
    return np.frombuffer(bytes(output), np.uint8)
