"""JPEG bytes -> RGB pixels, bit for bit as TensorFlow decodes them.

TensorFlow runs libjpeg-turbo with the fast integer DCT and smooth chroma upsampling, ignores EXIF orientation, refuses
files that end early, and shows what it can of files that are damaged inside. Source: TensorFlow
`core/lib/jpeg/jpeg_mem.cc: UncompressLow`; the segments are those of ITU-T T.81, annex B.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .image_size import damaged, require_size, undecodable

# Start-of-frame markers by the coding they announce (T.81, table B.1).
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1), (0xC2,)
OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
START_OF_SCAN, END_OF_IMAGE, APP14 = 0xDA, 0xD9, 0xEE
STANDALONE = (0x00, 0x01, *range(0xD0, 0xD8))  # stuffed zero, TEM, restarts: no length follows
BLOCK = 64  # coefficients
# How libjpeg's messages begin where it carries on, and so does TensorFlow.
RECOVERABLE = "Corrupt JPEG data"


class Frame(NamedTuple):
    """What precedes a JPEG's first scan. `components` holds the colour components' identifiers."""

    height: int
    width: int
    components: bytes
    progressive: bool
    adobe: bool  # an Adobe marker is present, and inks are stored inverted


def decode_jpeg(encoded: bytes, name: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a JPEG: grayscale, RGB, YCbCr, CMYK or YCCK, sequential or progressive, 8 bits a sample.

    Raises ImageError for a file that ends early or is damaged beyond decoding, for one beyond the limits of
    `image_size`, and for codings whose equality with TensorFlow is not established (arithmetic, lossless, 12-bit,
    unfinished progressive: TensorFlow's release of libjpeg-turbo smooths those differently).
    """
    frame = read_frame(encoded, name)
    require_size(frame.width, frame.height, name)
    if frame.progressive and not _scans_are_complete(encoded, frame):
        raise undecodable(name, "a progressive JPEG whose scans are incomplete")
    inks = len(frame.components) == 4
    pixels = _decompress(encoded, "CMYK" if inks else "RGB", name)
    if pixels.shape[:2] != (frame.height, frame.width):
        raise damaged(name, "its header names two sizes")
    return _mix(pixels, frame.adobe) if inks else pixels


def _decompress(encoded: bytes, colours: str, name: str) -> NDArray[np.uint8]:
    import simplejpeg

    def run(strict: bool) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            encoded, colours, fastdct=True, fastupsample=False, strict=strict
        )
        return pixels

    try:
        return run(strict=True)
    except (ValueError, RuntimeError) as error:
        # libjpeg takes the end of the bytes for the end of the image; TensorFlow does not. Damage inside is decoded
        # by both, to the same pixels.
        if not str(error).startswith(RECOVERABLE) or not any(mark == END_OF_IMAGE for mark, _ in segments(encoded)):
            raise damaged(name, f"JPEG: {str(error).strip() or 'undecodable'}") from error
    try:
        return run(strict=False)
    except (ValueError, RuntimeError) as error:
        raise damaged(name, f"JPEG: {str(error).strip() or 'undecodable'}") from error


def _mix(inks: NDArray[np.uint8], inverted: bool) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of (H, W, 4) CMYK, in TensorFlow's integers."""
    light = inks.astype(np.uint16) if inverted else 255 - inks.astype(np.uint16)
    return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)


def segments(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, payload) of each segment in order; coded data between segments is passed over.

    Ends with END_OF_IMAGE, or without it where the bytes end first.
    """
    position = 2
    while 0 <= (position := encoded.find(b"\xff", position)) < len(encoded) - 1:
        marker = encoded[position + 1]
        if marker == 0xFF:  # fill
            position += 1
        elif marker in STANDALONE:
            position += 2
        elif marker == END_OF_IMAGE:
            yield marker, b""
            return
        else:
            length = int.from_bytes(encoded[position + 2 : position + 4], "big")
            end = position + 2 + max(length, 2)
            if end > len(encoded):
                return
            yield marker, encoded[position + 4 : end]
            position = end


def read_frame(encoded: bytes, name: str) -> Frame:
    """The size, components and coding a JPEG declares. Raises ImageError where there is none that can be decoded."""
    frame, adobe = None, False
    for marker, payload in segments(encoded):
        if marker == START_OF_SCAN:
            break
        if marker == APP14:
            adobe |= payload.startswith(b"Adobe") and len(payload) >= 12
        elif marker in OTHER_FRAMES:
            raise undecodable(name, "an arithmetic, lossless or hierarchical JPEG")
        elif marker in SEQUENTIAL + PROGRESSIVE:
            if frame or len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
                raise damaged(name, "JPEG: its frame header is repeated or has a wrong length")
            frame = payload
            progressive = marker in PROGRESSIVE
    if frame is None:
        raise damaged(name, "JPEG: no frame header before its first scan")
    if frame[0] != 8 or frame[5] not in (1, 3, 4):
        raise undecodable(name, f"a JPEG of {frame[5]} components of {frame[0]} bits")
    height, width = (int.from_bytes(frame[at : at + 2], "big") for at in (1, 3))
    return Frame(height, width, frame[6::3], progressive, adobe)


def _scans_are_complete(encoded: bytes, frame: Frame) -> bool:
    """Whether the scans of a progressive JPEG give every coefficient of every component to its last bit."""
    missing = np.full((len(frame.components), BLOCK), -1)  # bits still to come; -1: none has
    for marker, payload in segments(encoded):
        if marker != START_OF_SCAN or not payload or len(payload) != 4 + 2 * payload[0]:
            continue
        first, last, low = payload[-3], payload[-2], payload[-1] & 15
        for component in payload[1:-3:2]:
            if component in frame.components:
                missing[frame.components.index(component), first : last + 1] = low
    return not missing.any()
