"""Sorted tables as TensorFlow writes them: read, and written back byte for byte."""

from pathlib import Path

import pytest

from effconv.convert.formats import table as table_module
from effconv.convert.formats.table import (
    BLOCK_SIZE,
    CRC_MASK_DELTA,
    FOOTER_SIZE,
    masked_crc32c,
    read_table,
    write_table,
)
from table_bytes import SOURCE, entry, table

GOLDEN = Path(__file__).parents[2] / "golden"
INDEXES = sorted(GOLDEN.glob("tiny-*/**/*.index"))
RELEASED = ("efficientdet-d0.coco2.model", "efficientdet-d0.savedmodel.variables", "efficientdet-d4.coco.model")


def test_masked_checksum() -> None:
    """The check value of crc32c, masked; pieces count as if they were one."""
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17) + CRC_MASK_DELTA) & 0xFFFFFFFF
    assert masked_crc32c(b"1234", b"", b"56789") == masked_crc32c(b"123456789")


@pytest.mark.parametrize("path", INDEXES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_tiny_index_is_written_back(path: Path) -> None:
    data = path.read_bytes()
    items = read_table(data, str(path))
    assert len(items) > 400
    assert write_table(items.items()) == data


def test_every_tiny_index_is_there() -> None:
    assert len(INDEXES) == 6


@pytest.mark.shared
@pytest.mark.parametrize("name", RELEASED)
def test_released_index_is_written_back(shared: Path, name: str) -> None:
    data = (shared / "facts" / "checkpoint_indexes" / "raw" / f"{name}.index").read_bytes()
    items = read_table(data, name)
    assert len(items) > 800
    assert write_table(items.items()) == data


def numbered(count: int, prefix: bytes, value: bytes) -> dict[bytes, bytes]:
    return {prefix + f"{number:06d}".encode(): value for number in range(count)}


MANY = {
    "short values": numbered(30_000, b"k", b"a value of some length"),
    "long shared prefixes": numbered(4_000, b"scope/" * 200, b"v" * 150),
    "keys of 0xff": {b"\xff" * length: b"v" * 2_000 for length in range(1, 400)},
    "0xff before the difference": {
        b"a\xff" + bytes([high, low]): b"v" * 900 for high in (1, 255) for low in range(256)
    },
    "large values": {bytes([number]): bytes([number]) * 300_000 for number in range(5)},
    "empty values and key": {b"": b"", **numbered(60_000, b"", b"")},
}


@pytest.mark.parametrize("name", MANY)
def test_tables_of_several_blocks(name: str) -> None:
    items = MANY[name]
    data = write_table(items.items())
    assert len(data) > BLOCK_SIZE
    assert list(read_table(data, SOURCE).items()) == list(items.items())
    blocks = table_module._Reader(data, SOURCE, True)
    index = blocks.handle(data[-FOOTER_SIZE:], blocks.handle(data[-FOOTER_SIZE:], 0)[1])[0]
    assert sum(1 for _ in blocks.entries(blocks.block(index))) > 1


@pytest.mark.parametrize(
    ("last", "following", "separator"),
    [
        (b"abc1zz", b"abc3", b"abc2"),
        (b"abc1zz", b"abc2", b"abc1zz"),  # nothing shorter lies between
        (b"ab", b"abc", b"ab"),
        (b"a\xffz", b"b", b"a\xffz"),
        (b"a\xffz", b"c", b"b"),
        (b"\xfd", b"\xff", b"\xfe"),
    ],
)
def test_separators_between_blocks(last: bytes, following: bytes, separator: bytes) -> None:
    """As LevelDB's FindShortestSeparator chooses them; never below the block's last key, always below the next."""
    assert table_module._separator(last, following) == separator
    assert last <= separator < following


@pytest.mark.parametrize(("last", "successor"), [(b"abc", b"b"), (b"\xff\xffa", b"\xff\xffb"), (b"\xff", b"\xff")])
def test_successor_after_the_last_block(last: bytes, successor: bytes) -> None:
    assert table_module._successor(last) == successor


@pytest.mark.parametrize(("short", "blocks"), [(0, 2), (1, 1)])
def test_a_block_ends_when_it_reaches_its_size(short: int, blocks: int) -> None:
    """The first entry, with the block's one restart point and its count, fills the block or lacks one byte."""
    overhead = len(entry(b"a", b"v" * BLOCK_SIZE)) - BLOCK_SIZE + 8
    data = write_table([(b"a", b"v" * (BLOCK_SIZE - overhead - short)), (b"b", b"w")])
    reader = table_module._Reader(data, SOURCE, True)
    index = reader.handle(data[-FOOTER_SIZE:], reader.handle(data[-FOOTER_SIZE:], 0)[1])[0]
    assert len(list(reader.entries(reader.block(index)))) == blocks


@pytest.mark.tf
def test_blocks_are_cut_where_tensorflow_cuts_them(tmp_path: Path) -> None:
    import numpy as np
    import tensorflow as tf

    names = [f"{letter * (1 + number % 40)}/{number}" for letter in "aké" for number in range(4000)]
    prefix = str(tmp_path / "model")
    tensors = [np.zeros((), np.float32)] * len(names)
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
    data = Path(prefix + ".index").read_bytes()
    assert len(data) > BLOCK_SIZE
    items = read_table(data, SOURCE)
    assert sorted(items) == sorted([b"", *(name.encode() for name in names)])
    assert write_table(items.items()) == data


def test_empty_table() -> None:
    data = write_table([])
    assert read_table(data, SOURCE) == {}
    assert data == table()
