"""The wire format: varints and fields, well-formed and not."""

import pytest

from effconv.convert.formats.wire import (
    WireError,
    bytes_field,
    fixed32_field,
    read_fields,
    read_varint,
    varint_field,
    write_varint,
)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 14, (1 << 32) - 1, 1 << 63, (1 << 64) - 1])
def test_varint_round_trip(value: int) -> None:
    data = write_varint(value)
    assert read_varint(b"\xff" + data + b"\x05", 1) == (value, 1 + len(data))


def test_varint_bytes_are_those_of_the_format() -> None:
    assert write_varint(300) == b"\xac\x02"  # the example of protobuf's own documentation
    assert write_varint((1 << 64) - 1) == b"\xff" * 9 + b"\x01"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (b"\x80", "cut off"),
        (b"\xff" * 9, "cut off"),
        (b"\xff" * 10, "longer than 10 bytes"),
        (b"\x80" * 10 + b"\x01", "longer than 10 bytes"),
        (b"\xff" * 9 + b"\x02", "exceeds 64 bits"),
        (b"\x85\x00", "padded with a zero byte"),
    ],
)
def test_malformed_varint(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        read_varint(data, 0)


def test_fields_round_trip() -> None:
    fixed64 = write_varint(4 << 3 | 1) + (1 << 40).to_bytes(8, "little")
    message = varint_field(1, 300) + bytes_field(2, b"text") + fixed32_field(6, 0xDEADBEEF) + fixed64
    assert list(read_fields(message)) == [(1, 300), (2, b"text"), (6, 0xDEADBEEF), (4, 1 << 40)]
    assert varint_field(1, 0) == b""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (bytes_field(2, b"text")[:-1], "field 2 is cut off"),
        (fixed32_field(6, 1)[:-1], "field 6 is cut off"),
        (write_varint(4 << 3 | 1) + b"\0" * 7, "field 4 is cut off"),
        (write_varint(2 << 3 | 2) + write_varint((1 << 64) - 1), "field 2 is cut off"),
        (write_varint(5 << 3 | 3), "field 5 has wire type 3"),
        (write_varint(5 << 3 | 7), "field 5 has wire type 7"),
        (write_varint(1 << 3), "varint is cut off"),
    ],
)
def test_malformed_message(message: bytes, expected: str) -> None:
    with pytest.raises(WireError, match=expected):
        list(read_fields(message))
