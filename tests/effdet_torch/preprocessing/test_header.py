"""The header of an image file: the size and orientation that Pillow finds, and no error whatever the bytes."""

import io
from pathlib import Path

import pytest
from PIL import Image

from effconv.effdet_torch.preprocessing.header import FIRST_BYTES, Header, exif_orientation, header_of, read_header

ORDERS = {"little": b"II*\0", "big": b"MM\0*"}


def picture(kind: str, exif: bytes = b"", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (13, 7)).save(file, kind, **({"exif": exif} if exif else {}), **options)
    return file.getvalue()


def exif(orientation: int, order: str, tag: int = 0x0112) -> bytes:
    """EXIF data of two entries, the second of `tag`."""

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, order)  # type: ignore[arg-type]

    entries = [
        number(each, 2) + number(3, 2) + number(1, 4) + number(value, 2) + b"\0\0"
        for each, value in ((0x0100, 5), (tag, orientation))
    ]
    return b"Exif\0\0" + ORDERS[order] + number(8, 4) + number(2, 2) + b"".join(entries) + number(0, 4)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_pillows(orientation: int, order: str) -> None:
    encoded = picture("JPEG", exif(orientation, order))
    assert Image.open(io.BytesIO(encoded)).getexif().get(0x0112) == orientation
    assert header_of(encoded) == Header(7, 13, orientation)


def test_without_an_orientation_a_picture_is_upright() -> None:
    for data in (b"", exif(6, "little", tag=0x0113), exif(9, "big"), exif(0, "big")):
        assert header_of(picture("JPEG", data)) == Header(7, 13, 1)
    assert exif_orientation(picture("PNG", exif(6, "big"))) == 1


def test_sizes_of_other_kinds() -> None:
    assert header_of(picture("PNG")) == Header(7, 13, 1)
    assert header_of(picture("GIF")) is None
    assert header_of(b"") is None


def test_a_header_that_is_larger_than_what_is_read_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(picture("JPEG", exif(6, "big"), icc_profile=bytes(2 * FIRST_BYTES)))
    assert header_of(path.read_bytes()[:FIRST_BYTES]) is None
    assert read_header(path) == Header(7, 13, 6)
    assert read_header(tmp_path / "absent.jpg") is None
    assert read_header(tmp_path) is None


def test_damage_is_no_error() -> None:
    encoded = picture("JPEG", exif(6, "little"))
    for size in range(len(encoded)):
        header_of(encoded[:size])
    for place in range(2, encoded.index(b"\xff\xda")):
        for value in (0, 255):
            header_of(encoded[:place] + bytes([value]) + encoded[place + 1 :])
            exif_orientation(encoded[:place] + bytes([value]) + encoded[place + 1 :])
