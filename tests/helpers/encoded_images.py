"""Encoded images of every kind, made from seeded pixels; PNG and BMP are written here, byte by byte."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def scene(height: int, width: int, seed: int = 0) -> Image.Image:
    """A smooth RGB picture with some noise, so that codecs have both to do."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / rng.uniform(2, 20) + columns / rng.uniform(2, 20)) for _ in range(3)]
    pixels = 128 + 100 * np.stack(waves, -1) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as Pillow writes it."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    height: int,
    colour: int,
    depth: int,
    *,
    interlace: int = 0,
    seed: int = 0,
    colours: int | None = None,
    extra: bytes = b"",
) -> bytes:
    """A PNG of random samples: every row has a random filter, which random bytes pass through as well as any.

    `extra` are chunks before the image data; a palette has `colours` entries.
    """
    rng = np.random.default_rng(seed)
    rows = b""
    for top, left, down, across in ADAM7 if interlace else ((0, 0, 1, 1),):
        count, columns = -(-(height - top) // down), -(-(width - left) // across)
        if count > 0 and columns > 0:
            length = (SAMPLES[colour] * depth * columns + 7) // 8
            for _ in range(count):
                rows += bytes([rng.integers(0, 5)]) + rng.bytes(length)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", rng.bytes(3 * (colours or 1 << depth))) if colour == 3 else b""
    return (
        SIGNATURE + chunk(b"IHDR", header) + palette + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def bmp(width: int, height: int, depth: int, *, seed: int = 0, start: int = 54) -> bytes:
    """An uncompressed BMP of random pixels; a negative height stores the top row first."""
    row = (depth // 8 * width + 3) // 4 * 4
    header = b"BM" + struct.pack("<IHHI", start + row * abs(height), 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, 0, 0, 0, 0, 0, 0)
    return header.ljust(start, b"\0") + np.random.default_rng(seed).bytes(row * abs(height))


def jpegs() -> Iterator[tuple[str, bytes]]:
    """(kind, bytes) of JPEGs in every subsampling, quality, colour space and size that matters."""
    import simplejpeg

    for height, width in ((65, 83), (9, 17), (1, 1), (3, 2)):
        image = scene(height, width)
        size = f"{width}x{height}"
        for sampling in ("444", "422", "420", "440", "411"):
            data = simplejpeg.encode_jpeg(np.asarray(image), quality=80, colorsubsampling=sampling)
            yield f"jpeg {sampling} {size}", data
        for quality in (5, 95, 100):
            for progressive in (False, True):
                name = f"jpeg {'progressive' if progressive else 'sequential'} q{quality} {size}"
                yield name, saved(image, "JPEG", quality=quality, progressive=progressive)
        yield f"jpeg gray {size}", saved(image.convert("L"), "JPEG")
        yield f"jpeg gray progressive {size}", saved(image.convert("L"), "JPEG", progressive=True)
        yield f"jpeg rgb {size}", saved(image, "JPEG", keep_rgb=True)
        yield f"jpeg restarts {size}", saved(image, "JPEG", restart_marker_blocks=2)
        inks = saved(image.convert("CMYK"), "JPEG", quality=90)
        yield f"jpeg cmyk adobe {size}", inks
        yield f"jpeg cmyk {size}", without_adobe(inks)
        yield f"jpeg cmyk other marker {size}", inks.replace(b"Adobe", b"Adobo")
        yield f"jpeg ycck {size}", inks.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2")
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        yield f"jpeg exif {size}", saved(image, "JPEG", exif=exif)
    yield "jpeg trailing", saved(scene(20, 30), "JPEG") + b"\0\1\2 and more"


def without_adobe(encoded: bytes) -> bytes:
    """The JPEG without its Adobe marker."""
    start = encoded.index(b"\xff\xee")
    return encoded[:start] + encoded[start + 2 + int.from_bytes(encoded[start + 2 : start + 4], "big") :]


def with_own_palette(encoded: bytes) -> bytes:
    """A GIF whose first frame has a palette beside everyone's, which is the same in reverse."""
    size = encoded[10] & 7
    colours = encoded[13 : 13 + 3 * 2 ** (size + 1)]
    end = encoded.index(b",", 13 + len(colours)) + 10
    return encoded[: end - 1] + bytes([encoded[end - 1] | 0x80 | size]) + colours[::-1] + encoded[end:]


def swallowed() -> bytes:
    """A JPEG with a segment in its last rows whose length reaches beyond the end: libjpeg pads, TensorFlow refuses."""
    encoded = saved(scene(65, 83), "JPEG")
    return encoded[:-200] + b"\xff\xe5\xff\xff" + encoded[-200:]


def pngs() -> Iterator[tuple[str, bytes]]:
    """(kind, bytes) of PNGs of every colour type, depth and interlacing, and with chunks that must not matter."""
    for colour, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)), (6, (8, 16))):
        for depth in depths:
            for interlace in (0, 1):
                for width, height in ((37, 23), (1, 1), (5, 3)):
                    name = f"png type {colour} depth {depth} interlace {interlace} {width}x{height}"
                    yield name, png(width, height, colour, depth, interlace=interlace, seed=depth)
    yield "png palette short", png(9, 9, 3, 8, colours=100)
    yield "png palette of one", png(9, 9, 3, 1, colours=1)
    yield "png palette transparent", png(9, 9, 3, 8, extra=chunk(b"tRNS", bytes(range(200))))
    for colour, key in ((0, bytes(2)), (2, bytes(6))):
        yield f"png transparent colour {colour}", png(9, 9, colour, 8, extra=chunk(b"tRNS", key))
    yield "png gamma", png(9, 9, 2, 8, extra=chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"sRGB", b"\0"))
    yield "png significant bits", png(9, 9, 2, 8, extra=chunk(b"sBIT", b"\5\5\5"))
    yield "png damaged text", png(9, 9, 2, 8, extra=chunk(b"tEXt", b"a\0b")[:-4] + bytes(4))
    yield "png suggested palette", png(9, 9, 2, 8, extra=chunk(b"PLTE", bytes(9)))
    yield "png trailing", png(9, 9, 2, 8) + b"more"
    image = scene(40, 50)
    yield "png saved", saved(image, "PNG")
    yield "png alpha saved", saved(Image.merge("RGBA", [*image.split(), image.convert("L")]), "PNG")


def others() -> Iterator[tuple[str, bytes]]:
    """(kind, bytes) of BMPs and GIFs."""
    for depth in (8, 24, 32):
        for height in (7, -7):
            yield f"bmp depth {depth} height {height}", bmp(13, height, depth)
    yield "bmp start 138", bmp(5, 4, 24, start=138)
    yield "bmp saved", saved(scene(11, 14), "BMP")
    image = scene(31, 45)
    for colours in (2, 16, 256):
        for interlace in (0, 1):
            palette = image.quantize(colours)
            yield f"gif {colours} colours interlace {interlace}", saved(palette, "GIF", interlace=interlace)
    yield "gif transparent", saved(image.quantize(8), "GIF", transparency=2)
    yield "gif gray", saved(image.convert("L"), "GIF")
    yield "gif one pixel", saved(scene(1, 1).quantize(2), "GIF")
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (150, 150), dtype=np.uint8))
    yield "gif full code table", saved(noise, "GIF")
    yield "gif own palette", with_own_palette(saved(image.quantize(8), "GIF"))
    frames = [scene(31, 45, seed).quantize(32) for seed in range(3)]
    yield "gif animated", saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
