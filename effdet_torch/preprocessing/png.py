"""PNG bytes -> RGB pixels, as TensorFlow (through libpng) decodes them.

Alpha and transparent colours are dropped, not blended; 16 bits are cut to their high byte; gamma and colour profiles
are ignored. Structure, checksums and size are verified here; Pillow then undoes filters and interlacing of a file
rebuilt from the critical chunks alone, so that no other chunk can change or break anything. By itself Pillow gives
other pixels for grey of 16 bits, and decodes 231 of the tests' 2000 damaged files that TensorFlow refuses.
Source: TensorFlow `core/lib/png/png_io.cc: CommonInitDecode`; W3C PNG specification, sections 5, 10 and 11.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .image_size import damaged, require_size, undecodable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
SAMPLES = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {GRAY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GRAY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
# Adam7: (first row, first column, row step, column step) of each pass.
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
MAX_CHUNK = 8_000_000  # libpng refuses a larger chunk, unless it is image data


class Header(NamedTuple):
    """The fields of IHDR."""

    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filtering: int
    interlace: int


def decode_png(encoded: bytes, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a PNG of any colour type and depth.

    Raises ImageError for a damaged file and for one beyond the limits of `image_size`. A few repairs that libpng
    attempts with a warning (data after the last row, a split run of IDAT) are refused here.
    """
    header, palette, data = _read(encoded, name)
    header_bytes = struct.pack(">IIBBBBB", *header)
    # Stored without compression: Pillow has only the filters to undo.
    chunks = [(b"IHDR", header_bytes), (b"IDAT", zlib.compress(data, 0)), (b"IEND", b"")]
    if header.colour == PALETTE:
        # Any will do: the indices are wanted, not the colours.
        chunks.insert(1, (b"PLTE", bytes(3)))
    rebuilt = SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks)

    from PIL import Image

    try:
        with Image.open(io.BytesIO(rebuilt), formats=("PNG",)) as image:
            samples = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise damaged(name, f"PNG: {error}") from error
    if header.colour == PALETTE:
        # libpng shows an index beyond the palette's end as black.
        table = np.zeros((256, 3), np.uint8)
        table[: len(palette) // 3] = np.frombuffer(palette, np.uint8).reshape(-1, 3)
        coloured: NDArray[np.uint8] = table[samples]
        return coloured
    if header.colour == GRAY:
        if header.depth == 16:
            samples = (samples >> 8).astype(np.uint8)
        elif header.depth == 1:
            samples = samples.astype(np.uint8) * np.uint8(255)
        return np.repeat(samples[:, :, None], 3, axis=2)
    if header.colour == GRAY_ALPHA:
        return np.repeat(samples[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(samples[:, :, :3])


def _read(encoded: bytes, name: str) -> tuple[Header, bytes, bytes]:
    """(header, palette or nothing, filtered rows) of a PNG whose structure is sound."""
    header, palette, parts, previous = None, b"", list[bytes](), b""
    for kind, body in _chunks(encoded, name):
        if (header is None) != (kind == b"IHDR"):
            raise damaged(name, "PNG: its header is missing or repeated")
        if kind == b"IHDR":
            header = _read_header(body, name)
        elif kind == b"PLTE" and header:
            if palette or parts or len(body) % 3 or not 3 <= len(body) <= 3 << min(header.depth, 8):
                raise damaged(name, "PNG: its palette is misplaced, repeated or of a wrong length")
            palette = body
        elif kind == b"IDAT":
            if parts and previous != b"IDAT":
                raise damaged(name, "PNG: its image data are interrupted")
            parts.append(body)
        elif kind != b"IEND" and not kind[0] & 0x20:
            raise damaged(name, f"PNG: unknown critical chunk {kind!r}")
        previous = kind
    if header is None or not parts or (header.colour == PALETTE and not palette):
        raise damaged(name, "PNG: no image data, or no palette where there must be one")
    return header, palette, _inflate(b"".join(parts), header, name)


def _chunks(encoded: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """(type, body) of each chunk to the end chunk; ancillary chunks with a wrong checksum are passed over."""
    position = len(SIGNATURE)
    while position + 12 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, position)
        end = position + 12 + length
        if end > len(encoded) or not kind.isalpha() or (length > MAX_CHUNK and kind != b"IDAT"):
            raise damaged(name, f"PNG: chunk {kind!r} of {length} bytes at byte {position}")
        body = encoded[position + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(encoded[end - 4 : end], "big"):
            yield kind, body
        elif not kind[0] & 0x20:
            raise damaged(name, f"PNG: wrong checksum in chunk {kind!r} at byte {position}")
        if kind == b"IEND":
            return
        position = end
    raise damaged(name, "PNG: it ends early")


def _read_header(body: bytes, name: str) -> Header:
    if len(body) != 13:
        raise damaged(name, f"PNG: a header of {len(body)} bytes")
    header = Header(*struct.unpack(">IIBBBBB", body))
    require_size(header.width, header.height, name)
    if header.depth not in DEPTHS.get(header.colour, ()):
        raise damaged(name, f"PNG: colour type {header.colour} with {header.depth} bits")
    if header.compression or header.filtering or header.interlace > 1:
        raise undecodable(name, "a PNG of unknown compression, filtering or interlacing")
    return header


def _inflate(data: bytes, header: Header, name: str) -> bytes:
    """The filtered rows, exactly as many as the header declares: never more memory than that is asked for."""
    passes = PASSES if header.interlace else ((0, 0, 1, 1),)
    sizes = [
        (-(-(header.height - top) // down), -(-(header.width - left) // across)) for top, left, down, across in passes
    ]
    bits = SAMPLES[header.colour] * header.depth
    lengths = [(rows, 1 + (bits * columns + 7) // 8) for rows, columns in sizes if rows > 0 and columns > 0]
    expected = sum(rows * length for rows, length in lengths)
    decompressor = zlib.decompressobj()
    try:
        rows = decompressor.decompress(data, expected + 1)
    except zlib.error as error:
        raise damaged(name, f"PNG: {error}") from error
    if len(rows) != expected or not decompressor.eof:
        raise damaged(name, f"PNG: its image data are not the {expected} bytes its header declares")
    return rows


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
