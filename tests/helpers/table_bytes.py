"""Sorted tables made by hand, right and wrong, for the tests of the reader."""

import pytest

from effconv.convert.formats.table import (
    FOOTER_SIZE,
    MAGIC,
    TRAILER_SIZE,
    masked_crc32c,
    read_table,
)
from effconv.convert.formats.wire import (
    write_varint,
)
from effconv.errors import CheckpointError

SOURCE = "here/model.index"


def block(entries: bytes, restarts: tuple[int, ...] = (0,), compression: int = 0) -> bytes:
    """A block with its trailer, whatever its entries are."""
    points = b"".join(point.to_bytes(4, "little") for point in (*restarts, len(restarts)))
    content = entries + points + bytes([compression])
    return content + masked_crc32c(content).to_bytes(4, "little")


def entry(key: bytes, value: bytes, shared: int = 0) -> bytes:
    return write_varint(shared) + write_varint(len(key)) + write_varint(len(value)) + key + value


def table(*blocks: tuple[bytes, bytes], meta: bytes = b"", padding: bytes = b"") -> bytes:
    """A table of (end key, block) pairs, with correct handles, index block and footer."""
    out, handles = bytearray(), b""
    for end_key, content in blocks:
        handles += entry(end_key, write_varint(len(out)) + write_varint(len(content) - TRAILER_SIZE))
        out += content
    footer = b""
    for content in (block(meta), block(handles)):
        footer += write_varint(len(out)) + write_varint(len(content) - TRAILER_SIZE)
        out += content
    return bytes(out) + (footer + padding).ljust(FOOTER_SIZE - 8, b"\0") + MAGIC.to_bytes(8, "little")


def refusal(data: bytes, *, verify: bool = True) -> str:
    """The message with which a table is refused; it always names the file."""
    with pytest.raises(CheckpointError) as caught:
        read_table(data, SOURCE, verify=verify)
    message = str(caught.value)
    assert message.startswith(f"{SOURCE}: ")
    return message
