"""Decoding: what every format's pixels are, and that no bytes, however wrong, do anything but raise ImageError."""

import contextlib
import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from effconv.effdet_torch.preprocessing import decode as decoding
from effconv.effdet_torch.preprocessing.decode import DECODERS, decode, decode_with_pillow, read_encoded
from effconv.effdet_torch.preprocessing.image_size import MAX_PIXELS
from effconv.errors import ImageError
from encoded_images import SIGNATURE, bmp, chunk, jpegs, others, png, pngs, saved, scene, swallowed, without_adobe

JPEGS, PNGS, OTHERS = (dict(kinds()) for kinds in (jpegs, pngs, others))
REFUSED = ("gif transparent",)
NOT_PILLOW = ("png damaged text",)  # a wrong checksum that libpng passes over
DECODABLE = {kind: encoded for kind, encoded in {**JPEGS, **PNGS, **OTHERS}.items() if kind not in REFUSED}


def with_jpeg_size(encoded: bytes, height: int, width: int) -> bytes:
    """A sequential JPEG that declares another size."""
    start = encoded.index(b"\xff\xc0") + 5
    return encoded[:start] + struct.pack(">HH", height, width) + encoded[start + 4 :]


def gif(data: bytes, *, side: int = 4, left: int = 0, flags: int = 0x80) -> bytes:
    """A square GIF of these image data, with a palette of two colours where `flags` announce it."""
    screen = struct.pack("<HHBBB", side, side, flags, 0, 0) + bytes(6 if flags else 0)
    return b"GIF89a" + screen + struct.pack("<cHHHHB", b",", left, 0, side, side, 0) + data + b";"


@pytest.mark.parametrize("kind", DECODABLE)
def test_every_kind_gives_rgb(kind: str) -> None:
    pixels = decode(DECODABLE[kind])
    assert (pixels.ndim, pixels.shape[2], pixels.dtype, pixels.flags.c_contiguous) == (3, 3, np.uint8, True)
    if kind not in NOT_PILLOW:
        with Image.open(io.BytesIO(DECODABLE[kind])) as image:
            assert image.size == pixels.shape[1::-1]


@pytest.mark.parametrize("kind", [kind for kind in PNGS if "depth 16" not in kind and kind not in NOT_PILLOW])
def test_png_without_transparency_is_as_pillow_has_it(kind: str) -> None:
    with Image.open(io.BytesIO(PNGS[kind])) as image:
        image.info.pop("transparency", None)
        opaque = image.convert("RGBA") if image.mode == "LA" else image
        # Dropping the alpha channel, never blending with it.
        expected = np.asarray(opaque.convert("RGB") if opaque.mode != "RGBA" else opaque)[:, :, :3]
    assert np.array_equal(decode(PNGS[kind]), expected)


@pytest.mark.parametrize(("colour", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_keeps_the_high_byte(colour: int, samples: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (3, 5, samples), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 5, 3, 16, colour, 0, 0, 0)
    encoded = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    high = (values >> 8).astype(np.uint8)
    assert np.array_equal(decode(encoded), high[:, :, :3] if samples > 2 else np.repeat(high[:, :, :1], 3, 2))


def test_a_palette_s_missing_colours_are_black() -> None:
    pixels = decode(PNGS["png palette short"])
    assert (pixels == 0).all(-1).mean() > 0.3  # 156 of 256 indices are beyond the palette's end


def test_bmp_and_gif_are_as_pillow_has_them() -> None:
    for kind, encoded in OTHERS.items():
        if kind not in REFUSED and "depth 8" not in kind:
            with Image.open(io.BytesIO(encoded)) as image:
                assert np.array_equal(decode(encoded), np.asarray(image.convert("RGB"))), kind


def test_a_bmp_of_8_bits_is_grey_whatever_its_palette() -> None:
    encoded = bmp(4, 3, 8)
    rows = np.frombuffer(encoded[54:], np.uint8).reshape(3, 4)[::-1]
    assert np.array_equal(decode(encoded), np.repeat(rows[:, :, None], 3, 2))


def test_jpeg_is_decoded_with_the_fast_transform() -> None:
    encoded = JPEGS["jpeg sequential q95 83x65"]
    apart = np.abs(decode(encoded).astype(int) - decode_with_pillow(encoded))
    assert 0.1 < apart.mean() < 4


def test_exif_orientation_is_ignored() -> None:
    assert np.array_equal(decode(JPEGS["jpeg exif 83x65"]), decode(saved(scene(65, 83), "JPEG")))


def test_inks_are_mixed_in_integers() -> None:
    import simplejpeg

    encoded = JPEGS["jpeg cmyk adobe 83x65"]
    inks = simplejpeg.decode_jpeg(encoded, "CMYK", fastdct=True).astype(int)
    assert np.array_equal(decode(encoded), inks[..., :3] * inks[..., 3:] // 255)
    for plain in (without_adobe(encoded), encoded.replace(b"Adobe", b"Adobo")):
        assert np.array_equal(decode(plain), (255 - inks[..., :3]) * (255 - inks[..., 3:]) // 255)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "no bytes"),
        (b"text", "neither JPEG, PNG, GIF nor BMP"),
        (saved(scene(4, 4), "TIFF"), "neither JPEG"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "as TensorFlow does .a WebP"),
        (OTHERS["gif transparent"], "a GIF with a transparent colour"),
        (gif(b"\2\1\x4c\0", left=1), "first frame is not its whole picture"),
        (gif(b"\2\1\x2c\0"), "its image data are damaged"),
        (gif(b"\2\1\x1c\0", side=1), "GIF: colour 3 of a palette of 2"),
        (gif(b"\2\1\x04\0", side=1)[:-1], "GIF: it ends early"),
        (gif(b"\2\1\x04\0\7", side=1), "GIF: an unknown block at byte 33"),
        (gif(b"\2\1\x04\0", side=1, flags=0), "GIF: a frame without a palette"),
        (bmp(4, 4, 16), "a BMP of 16 bits"),
        (bmp(4, 4, 24) + b"\0", "not its header and 4 rows of 12"),
        (JPEGS["jpeg 420 83x65"].replace(b"\xff\xc0", b"\xff\xc9", 1), "arithmetic, lossless or hierarchical"),
        (JPEGS["jpeg 420 83x65"].replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c", 1), "3 components of 12"),
        (JPEGS["jpeg 420 83x65"][:-2], "Premature end of JPEG"),
        (swallowed(), "Corrupt JPEG data"),
        (JPEGS["jpeg 420 83x65"][:100], "JPEG: no frame header"),
        (png(4, 4, 2, 8)[:-1], "PNG: it ends early"),
        (png(4, 4, 2, 8).replace(b"IDAT", b"IDAT", 1)[:-13] + b"\0" + png(4, 4, 2, 8)[-12:], "wrong checksum in chunk"),
        (png(4, 4, 2, 8, extra=chunk(b"ABCD", b"")), "unknown critical chunk"),
        (png(4, 4, 2, 8).replace(b"\0\0\0\4\0\0\0\4", b"\0\0\0\4\0\0\0\5"), "wrong checksum in chunk b'IHDR'"),
    ],
)
def test_what_cannot_be_had_identically_is_refused_by_name(encoded: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=rf"^photo\.x: .*{reason}"):
        decode(encoded, name="photo.x")


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_every_other_coding_of_jpeg_is_named(marker: int) -> None:
    encoded = JPEGS["jpeg 420 83x65"].replace(b"\xff\xc0", bytes((0xFF, marker)), 1)
    with pytest.raises(ImageError, match="an arithmetic, lossless or hierarchical JPEG"):
        decode(encoded)


PNG_HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 8, 2, 0, 0, 0))
PNG_END = chunk(b"IEND", b"")
PALETTE = chunk(b"PLTE", bytes(6))


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (PNG_HEADER + PALETTE * 2 + chunk(b"IDAT", zlib.compress(bytes(13))), "its palette is misplaced, repeated"),
        (PNG_HEADER + chunk(b"IDAT", zlib.compress(bytes(13))) + PALETTE, "its palette is misplaced, repeated"),
        (PNG_HEADER + chunk(b"PLTE", bytes(7)) + chunk(b"IDAT", zlib.compress(bytes(13))), "of a wrong length"),
        (PNG_HEADER * 2 + chunk(b"IDAT", zlib.compress(bytes(13))), "its header is missing or repeated"),
        (chunk(b"IDAT", zlib.compress(bytes(13))) + PNG_HEADER, "its header is missing or repeated"),
        (PNG_HEADER, "no image data"),
        (
            PNG_HEADER + chunk(b"IDAT", zlib.compress(bytes(13))) + chunk(b"tIME", bytes(7)) + chunk(b"IDAT", b""),
            "its image data are interrupted",
        ),
        (PNG_HEADER + chunk(b"IDAT", zlib.compress(bytes(13))[:-4]), "are not the 13 bytes"),
        (PNG_HEADER + chunk(b"IDAT", zlib.compress(bytes(12))), "are not the 13 bytes"),
        (PNG_HEADER + chunk(b"IDAT", zlib.compress(bytes(14))), "are not the 13 bytes"),
        (PNG_HEADER + chunk(b"IDAT", zlib.compress(b"\5" + bytes(12))), "PNG: "),
        (PNG_HEADER + chunk(b"tEXt", bytes(8_000_001)) + chunk(b"IDAT", zlib.compress(bytes(13))), "of 8000001 bytes"),
        (PNG_HEADER + chunk(b"a1bc", b"") + chunk(b"IDAT", zlib.compress(bytes(13))), "chunk b'a1bc'"),
    ],
)
def test_png_of_unsound_structure_is_refused(chunks: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=f"image: not a readable image .*{reason}"):
        decode(SIGNATURE + chunks + PNG_END)
    sound = SIGNATURE + PNG_HEADER + PALETTE + chunk(b"IDAT", zlib.compress(bytes(13))) + PNG_END
    assert not decode(sound).any()


def test_unfinished_progressive_jpeg_is_refused_and_a_finished_one_is_not() -> None:
    encoded = JPEGS["jpeg progressive q95 83x65"]
    scans = [place for place in range(len(encoded)) if encoded.startswith(b"\xff\xda", place)]
    for place in scans[1:]:
        with pytest.raises(ImageError, match="scans are incomplete"):
            decode(encoded[:place] + b"\xff\xd9")
    assert decode(encoded).shape == (65, 83, 3)
    # A mean for each block, to its last bit, and nothing else.
    gray = JPEGS["jpeg gray progressive 83x65"]
    first, second = [place for place in range(len(gray)) if gray.startswith(b"\xff\xda", place)][:2]
    whole_means = gray[:second].replace(b"\1\1\0\0\0\1", b"\1\1\0\0\0\0")
    assert whole_means[first:] != gray[first:second]
    with pytest.raises(ImageError, match="scans are incomplete"):
        decode(whole_means + b"\xff\xd9")


def test_damage_inside_a_sequential_jpeg_is_shown_as_tensorflow_shows_it() -> None:
    encoded = saved(scene(65, 83), "JPEG", quality=95)
    damaged = encoded[:-300] + b"\xff\xd9"
    pixels, whole = decode(damaged), decode(encoded)
    assert np.array_equal(pixels[:15], whole[:15])
    assert not np.array_equal(pixels, whole)


BOMBS = {
    "jpeg": with_jpeg_size(JPEGS["jpeg sequential q95 83x65"], 60000, 60000),
    "png": SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)),
    "gif": b"GIF89a\x60\xea\x60\xea\x80\0\0" + bytes(6) + b",\0\0\0\0\x60\xea\x60\xea\0\2\1\0\0;",
    "bmp": struct.pack("<2sIIIIiiHH", b"BM", 60, 0, 54, 40, 60000, 60000, 1, 24).ljust(60, b"\0"),
    "wide png": SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 70000, 1, 8, 2, 0, 0, 0)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_huge_image_in_a_small_file_is_refused_before_memory_is_asked_for(kind: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=rf"bomb: \d+ x \d+ pixels, and effconv decodes up to {MAX_PIXELS:,}"):
            decode(BOMBS[kind], name="bomb")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_compressed_zeros_beyond_the_declared_size_are_not_unpacked() -> None:
    data = zlib.compress(bytes(200_000_000), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    encoded = SIGNATURE + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="not the 52 bytes"):
            decode(encoded)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_pillow_refuses_bombs_and_damage_too() -> None:
    large = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 8193, 8192, 8, 2, 0, 0, 0)) + png(4, 4, 2, 8)[33:]
    with pytest.raises(ImageError, match="photo: 8193 x 8192 pixels, and effconv decodes"):
        decode_with_pillow(large, name="photo")
    for encoded in (BOMBS["jpeg"], b"", JPEGS["jpeg 420 83x65"][:300]):
        with pytest.raises(ImageError, match="photo: "):
            decode_with_pillow(encoded, name="photo")


@pytest.mark.parametrize("kind", ["jpeg 420 17x9", "png type 3 depth 4 interlace 1 5x3", "gif one pixel", "bmp saved"])
def test_no_cut_or_changed_byte_does_more_than_raise(kind: str) -> None:
    encoded = DECODABLE[kind]
    for place in range(len(encoded)):
        for damaged in (encoded[:place], encoded[:place] + bytes([encoded[place] ^ 0xFF]) + encoded[place + 1 :]):
            with contextlib.suppress(ImageError):
                assert decode(damaged).dtype == np.uint8


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(DECODERS)), st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(magic: bytes, body: bytes) -> None:
    with contextlib.suppress(ImageError):
        decode(magic + body)


def test_files_beyond_the_limit_are_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(bytes(100))
    assert read_encoded(path) == bytes(100)
    monkeypatch.setattr(decoding, "MAX_BYTES", 99)
    with pytest.raises(ImageError, match=r"large\.png: not a readable image \(above 99 bytes\)"):
        read_encoded(path)
