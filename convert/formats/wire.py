"""The parts of the protocol buffer wire format that checkpoint files use: varints, fixed 32-bit values, byte strings.

Written by hand: protobuf takes 0.05 s to import, needs TensorFlow's message classes beside it and takes padded varints,
which no writer writes, while here no byte of an index may change unseen.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10


class WireError(ValueError):
    """Bytes that are not a well-formed message."""


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, position after it) of the base-128 varint at `position`. Raises WireError if cut, too long or padded."""
    if position < len(data) and data[position] < 0x80:  # most are one byte, and an index holds tens of thousands
        return data[position], position + 1
    value = 0
    for count in range(MAX_VARINT_BYTES):
        if position >= len(data):
            raise WireError("a varint is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if byte == 0:  # no writer does this; accepted, a flipped top bit before a zero byte would go unseen
                raise WireError("a varint is padded with a zero byte")
            if value >= 1 << 64:
                raise WireError("a varint exceeds 64 bits")
            return value, position
    raise WireError("a varint is longer than 10 bytes")


def write_varint(value: int) -> bytes:
    """The base-128 varint of a value in 0..2**64-1."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of every field, in order: bytes for a byte string, an int for every other wire type.

    Raises WireError on malformed bytes.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == VARINT:
            value, position = read_varint(message, position)
        elif kind in (BYTES, FIXED32, FIXED64):
            if kind == BYTES:
                length, position = read_varint(message, position)
            else:
                length = 4 if kind == FIXED32 else 8
            if position + length > end:
                raise WireError(f"field {number} is cut off")
            raw = message[position : position + length]
            value = raw if kind == BYTES else int.from_bytes(raw, "little")
            position += length
        else:
            raise WireError(f"field {number} has wire type {kind}, which no checkpoint uses")
        yield number, value


def varint_field(number: int, value: int) -> bytes:
    """A varint field; empty for zero, which the format leaves out."""
    return write_varint(number << 3 | VARINT) + write_varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return write_varint(number << 3 | BYTES) + write_varint(len(value)) + value


def fixed32_field(number: int, value: int) -> bytes:
    """A fixed 32-bit field."""
    return write_varint(number << 3 | FIXED32) + value.to_bytes(4, "little")
