"""What an image file says of itself before its pixels: its size, and how a viewer is to turn it."""

import os
from typing import NamedTuple

from ...errors import ImageError
from .jpeg import START_OF_SCAN, read_frame, segments

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
APP1, EXIF = 0xE1, b"Exif\0\0"
BYTE_ORDERS = {b"II*\0": "little", b"MM\0*": "big"}
ORIENTATION = 0x0112  # EXIF 2.3 (CIPA DC-008), table 4
UPRIGHT = 1
FIRST_BYTES = 2**16  # of a file: a header with a thumbnail hardly ever is larger


class Header(NamedTuple):
    """Height and width in pixels, as they are stored, and the EXIF orientation, 1 to 8; 1 is upright."""

    height: int
    width: int
    orientation: int


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """The header of a JPEG or PNG file; None for other kinds, and for a file that is damaged or cannot be read."""
    try:
        with open(path, "rb") as file:
            encoded = file.read(FIRST_BYTES)
            found = header_of(encoded)
            return found or (header_of(encoded + file.read()) if encoded.startswith(JPEG) else None)
    except OSError:
        return None


def header_of(encoded: bytes) -> Header | None:
    """The same of an encoded image, or of as much of its beginning as holds the header."""
    if encoded.startswith(PNG) and encoded[12:16] == b"IHDR":
        return Header(int.from_bytes(encoded[20:24], "big"), int.from_bytes(encoded[16:20], "big"), UPRIGHT)
    if not encoded.startswith(JPEG):
        return None
    try:
        frame = read_frame(encoded, "")
    except ImageError:
        return None
    return Header(frame.height, frame.width, exif_orientation(encoded))


def exif_orientation(encoded: bytes) -> int:
    """The orientation that a JPEG's EXIF data asks of a viewer, 1 to 8; 1 where it asks none, and for other kinds."""
    if not encoded.startswith(JPEG):
        return UPRIGHT
    for marker, payload in segments(encoded):
        if marker == START_OF_SCAN:
            break
        if marker == APP1 and payload.startswith(EXIF):
            return _orientation(payload[len(EXIF) :])
    return UPRIGHT


def _orientation(exif: bytes) -> int:
    """Of the first directory of EXIF data; what lies beyond its end counts as zeros."""
    order = BYTE_ORDERS.get(exif[:4])
    if order is None:
        return UPRIGHT

    def number(place: int, size: int) -> int:
        return int.from_bytes(exif[place : place + size], "little" if order == "little" else "big")

    first = number(4, 4) + 2
    for entry in range(first, min(first + 12 * number(first - 2, 2), len(exif)), 12):
        if number(entry, 2) == ORIENTATION:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
