"""The segments of a JPEG: markers in its coded data, and scans whose header is wrong."""

import pytest

from effconv.effdet_torch.preprocessing.jpeg import END_OF_IMAGE, START_OF_SCAN, decode_jpeg, segments
from effconv.errors import ImageError
from encoded_images import saved, scene

SCAN = b"\xff\xda\x00\x03\x01"  # a scan whose header is of one byte


@pytest.mark.parametrize("marker", [0x00, 0x01, 0xD0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7])
def test_markers_in_coded_data_have_no_length(marker: int) -> None:
    """What follows is data, which as a length would reach beyond the end."""
    coded = b"\x12" + bytes([0xFF, marker]) + b"\x7f\x7f\x34"
    found = list(segments(b"\xff\xd8" + SCAN + coded + b"\xff\xd9"))
    assert found == [(START_OF_SCAN, b"\x01"), (END_OF_IMAGE, b"")]


@pytest.mark.parametrize("header", [b"", b"\x03", b"\x01\x01\x00\x00\x3f"])
def test_a_scan_whose_header_is_wrong_gives_nothing(header: bytes) -> None:
    """Without that scan a progressive JPEG is incomplete, and it is that which is said."""
    encoded = saved(scene(9, 17), "JPEG", progressive=True)
    start = encoded.rindex(b"\xff\xda")  # of the last bits of some coefficients
    length = int.from_bytes(encoded[start + 2 : start + 4], "big")
    changed = encoded[: start + 2] + (len(header) + 2).to_bytes(2, "big") + header + encoded[start + 2 + length :]
    with pytest.raises(ImageError, match=r"a\.jpg: cannot .*a progressive JPEG whose scans are incomplete"):
        decode_jpeg(changed, "a.jpg")
