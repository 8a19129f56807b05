"""Sorted tables that are wrong: every change is seen, and named with its block."""

from collections.abc import Callable

import pytest

from effconv.convert.formats import table as table_module
from effconv.convert.formats.table import (
    FOOTER_SIZE,
    MAGIC,
    SNAPPY,
    TRAILER_SIZE,
    masked_crc32c,
    read_table,
)
from effconv.convert.formats.wire import (
    write_varint,
)
from effconv.errors import CheckpointError
from table_bytes import SOURCE, block, entry, refusal, table

ENTRIES = entry(b"", b"header") + entry(b"abc", b"one") + entry(b"x", b"two", shared=2)
GOOD = table((b"b", block(ENTRIES)))


def test_crafted_table_is_right() -> None:
    """The tables below are refused for what is wrong with each, not for how they were made."""
    assert read_table(GOOD, SOURCE) == {b"": b"header", b"abc": b"one", b"abx": b"two"}


def test_every_single_byte_change_of_a_small_table_is_seen() -> None:
    """All 255 changes of every byte: no byte of the format is left to chance."""
    survivors = []
    for position in range(len(GOOD)):
        for change in range(1, 256):
            data = bytearray(GOOD)
            data[position] ^= change
            message = ""
            try:
                read_table(bytes(data), SOURCE)
            except CheckpointError as error:
                message = str(error)
            if "block" not in message and "footer" not in message:
                survivors.append((position, change, message))
    assert survivors == []


def test_every_truncation_of_a_small_table_is_seen() -> None:
    for length in range(len(GOOD)):
        assert "footer" in refusal(GOOD[:length]) or "block" in refusal(GOOD[:length])
    assert "footer: expected at least 48 bytes, found 0" in refusal(b"")


@pytest.mark.parametrize("extra", [b"\0", b"x", b"\0" * 48, GOOD, GOOD[-FOOTER_SIZE:]])
def test_bytes_before_and_after_are_seen(extra: bytes) -> None:
    assert "footer" in refusal(GOOD + extra) or "block" in refusal(GOOD + extra)
    assert "block" in refusal(extra + GOOD)


@pytest.mark.parametrize("verify", [True, False])
def test_snappy_is_refused_by_name(verify: bool) -> None:
    message = refusal(table((b"b", block(ENTRIES, compression=SNAPPY))), verify=verify)
    assert "data block 0 is snappy-compressed, which effconv does not read" in message
    assert "save the checkpoint again" in message


def test_snappy_index_block_is_refused_by_name() -> None:
    data = bytearray(GOOD)
    start = len(GOOD) - FOOTER_SIZE - TRAILER_SIZE
    reader = table_module._Reader(GOOD, SOURCE, True)
    footer = GOOD[-FOOTER_SIZE:]
    offset, size = reader.handle(footer, reader.handle(footer, 0)[1])[0]
    data[start] = SNAPPY
    data[start + 1 : start + TRAILER_SIZE] = masked_crc32c(bytes(data[offset : offset + size + 1])).to_bytes(
        4, "little"
    )
    assert "index block is snappy-compressed" in refusal(bytes(data))


@pytest.mark.parametrize("compression", [2, 4, 255])
def test_unknown_compression(compression: int) -> None:
    message = refusal(table((b"b", block(ENTRIES, compression=compression))))
    assert f"data block 0: unknown compression type {compression}" in message


def test_wrong_checksum_is_named_and_can_be_ignored() -> None:
    wrong = bytearray(GOOD)
    wrong[GOOD.index(b"one")] ^= 0x20
    message = refusal(bytes(wrong))
    assert "data block 0: checksum" in message
    assert "expected" in message
    assert "found" in message
    assert read_table(bytes(wrong), SOURCE, verify=False)[b"abc"] == b"One"


def test_keys_out_of_order() -> None:
    assert "data block 0: key b'a' is out of order" in refusal(
        table((b"b", block(entry(b"b", b"") + entry(b"a", b""))))
    )
    twice = block(entry(b"a", b"1") + entry(b"a", b"2"))
    assert "data block 0: key b'a' is out of order" in refusal(table((b"b", twice)))
    blocks = (b"c", block(entry(b"c", b""))), (b"d", block(entry(b"b", b"")))
    assert "data block 1: key b'b' is out of order" in refusal(table(*blocks))


def test_key_beyond_its_block() -> None:
    message = refusal(table((b"aa", block(ENTRIES))))
    assert "data block 0: key b'abx' lies beyond the block's end key" in message


@pytest.mark.parametrize("byte", range(4))
def test_nonzero_padding_in_the_footer(byte: int) -> None:
    message = refusal(table((b"b", block(ENTRIES)), padding=b"\0" * byte + b"\1"))
    assert "footer: padding is not zero" in message


def test_wrong_magic() -> None:
    assert "footer: no TensorFlow checkpoint index (magic number missing)" in refusal(GOOD[:-1] + b"\0")
    assert "footer: no TensorFlow checkpoint index" in refusal(b"\0" * 1000)


@pytest.mark.parametrize(
    ("entries", "key"),
    [
        (entry(b"", b"") + entry(b"x", b"", shared=1), b""),
        (entry(b"ab", b"") + entry(b"x", b"", shared=3), b"ab"),
        (entry(b"ab", b"") + entry(b"x", b"", shared=(1 << 64) - 1), b"ab"),
        (entry(b"ab", b"") + entry(b"cd", b"value")[:-1], b"ab"),
        (b"\0" + write_varint(1 << 60) + b"\0", b""),
        (b"\0\0" + write_varint((1 << 64) - 1), b""),
    ],
)
def test_entry_that_does_not_fit(entries: bytes, key: bytes) -> None:
    for verify in (True, False):
        message = refusal(table((b"\xff", block(entries))), verify=verify)
        assert f"data block 0: the entry after key {key!r} does not fit" in message


@pytest.mark.parametrize("restarts", [0, 2, 1000, (1 << 32) - 1])
def test_absurd_restart_count(restarts: int) -> None:
    content = b"\0" * 4 + restarts.to_bytes(4, "little") + b"\0"
    data = table((b"b", content + masked_crc32c(content).to_bytes(4, "little")))
    assert f"data block 0: {restarts} restart points do not fit in 8 bytes" in refusal(data)


def test_block_too_short_for_its_restart_count() -> None:
    content = b"\0\0\0" + b"\0"
    data = table((b"b", content + masked_crc32c(content).to_bytes(4, "little")))
    assert "data block 0: too short to hold its restart count" in refusal(data)


def test_varints_too_long_name_the_block() -> None:
    assert "data block 0: a varint is longer than 10 bytes" in refusal(table((b"b", block(b"\xff" * 11))))
    assert "data block 0: a varint is padded" in refusal(table((b"b", block(b"\0\0\x85\0"))))
    footer = b"\xff" * 40 + GOOD[-8:]
    assert "footer: a varint is longer than 10 bytes" in refusal(GOOD[:-FOOTER_SIZE] + footer)


def test_meta_index_block_must_be_empty() -> None:
    assert "meta-index block: expected no entries" in refusal(table((b"b", block(ENTRIES)), meta=entry(b"k", b"v")))


def with_handles(change: Callable[[int], int]) -> bytes:
    """A table whose second block's offset in the index is changed."""
    first, second = block(entry(b"a", b"")), block(entry(b"b", b""))
    handles = entry(b"a", write_varint(0) + write_varint(len(first) - TRAILER_SIZE))
    handles += entry(b"c", write_varint(change(len(first))) + write_varint(len(second) - TRAILER_SIZE))
    out, footer = first + second, b""
    for content in (block(b""), block(handles)):
        footer += write_varint(len(out)) + write_varint(len(content) - TRAILER_SIZE)
        out += content
    return out + footer.ljust(FOOTER_SIZE - 8, b"\0") + MAGIC.to_bytes(8, "little")


@pytest.mark.parametrize("offset", [0, 1, 1 << 40, (1 << 64) - 1])
def test_blocks_must_follow_each_other(offset: int) -> None:
    assert len(read_table(with_handles(lambda right: right), SOURCE)) == 2
    message = refusal(with_handles(lambda _: offset))
    assert "data block 1: expected at byte" in message
    assert f"found at {offset}" in message


def test_bytes_between_the_blocks_are_seen() -> None:
    first = block(entry(b"a", b""))
    handles = entry(b"a", write_varint(0) + write_varint(len(first) - TRAILER_SIZE))
    out, footer = first + b"unseen", b""
    for content in (block(b""), block(handles)):
        footer += write_varint(len(out)) + write_varint(len(content) - TRAILER_SIZE)
        out += content
    data = out + footer.ljust(FOOTER_SIZE - 8, b"\0") + MAGIC.to_bytes(8, "little")
    assert f"data blocks: end at byte {len(first)}, expected {len(first) + 6}" in refusal(data)


def test_bytes_before_the_footer_are_seen() -> None:
    data = GOOD[:-FOOTER_SIZE] + b"unseen" + GOOD[-FOOTER_SIZE:]
    assert f"index block: ends at byte {len(GOOD) - FOOTER_SIZE}, but the footer starts at" in refusal(data)


def test_keys_that_unfold_to_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes can repeat a long key; the sum is limited, not only the file."""
    monkeypatch.setattr(table_module, "MAX_KEY_BYTES", 100_000)
    entries, length = entry(b"k" * 1000, b""), 1000
    for _ in range(150):
        entries += entry(b"k", b"", shared=length)
        length += 1
    message = refusal(table((b"l", block(entries))))
    assert "data block 0: the keys take more than 100000 bytes" in message
