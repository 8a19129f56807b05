"""TensorBundles in memory: read, made by hand, and damaged, for the tests of the reader."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from effconv.convert.formats.bundle import DTYPES, Bundle, Entry, shard_suffix, write_bundle
from effconv.convert.formats.table import write_table
from effconv.convert.formats.wire import bytes_field, fixed32_field, varint_field
from effconv.convert.layout import Array
from effconv.errors import CheckpointError

GOLDEN = Path(__file__).parent.parent / "golden"
TINY = ("tiny-swish", "tiny-sum8", "tiny-lite")
BUNDLES = [*(f"{name}/model" for name in TINY), *(f"{name}/keras/ckpt" for name in TINY)]
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
ONE_SHARD = shard_suffix(0, 1)
PLACES = ("block", "footer", "header", "shard")


def repeatable(examples: int) -> settings:
    """The same examples on every machine, and no deadline: a slow one is not a wrong one."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def load(name: str) -> tuple[bytes, bytes]:
    """(index, data) of a golden checkpoint."""
    return (GOLDEN / f"{name}.index").read_bytes(), (GOLDEN / f"{name}{ONE_SHARD}").read_bytes()


def shards(*contents: bytes) -> Callable[[str], bytes]:
    """What opens the given shards, and refuses others as a directory would."""
    files = {shard_suffix(number, len(contents)): content for number, content in enumerate(contents)}

    def open_shard(suffix: str) -> bytes:
        if suffix not in files:
            raise CheckpointError(f"model{suffix}: missing shard")
        return files[suffix]

    return open_shard


def open_bundle(index: bytes, *contents: bytes, verify: bool = True) -> Bundle:
    return Bundle(index, "model.index", shards(*contents), verify=verify)


def write(tensors: Mapping[str, Array]) -> tuple[bytes, bytes]:
    index, arrays = write_bundle(tensors)
    return index, b"".join(array.tobytes() for array in arrays)


def header(count: int = 1, endianness: int = 0) -> tuple[bytes, bytes]:
    return b"", varint_field(1, count) + varint_field(2, endianness) + bytes_field(3, varint_field(1, 1))


def proto(entry: Entry, number: int | None = None, extra: bytes = b"") -> bytes:
    """A BundleEntryProto, as TensorFlow orders its fields."""
    numbers = {name: key for key, (name, _) in DTYPES.items()}
    dimensions = b"".join(bytes_field(2, varint_field(1, size)) for size in entry.shape)
    message = varint_field(1, numbers[entry.dtype] if number is None else number) + bytes_field(2, dimensions)
    message += varint_field(3, entry.shard) + varint_field(4, entry.offset) + varint_field(5, entry.size)
    return message + fixed32_field(6, entry.crc) + extra


def index_of(entries: Mapping[str, Entry], count: int = 1) -> bytes:
    return write_table([header(count), *((name.encode(), proto(entries[name])) for name in sorted(entries))])


def refusal(index: bytes, *contents: bytes) -> str:
    """The message with which opening or checking a bundle fails."""
    with pytest.raises(CheckpointError) as caught:
        open_bundle(index, *contents).check()
    return str(caught.value)


def unseen(index: bytes, data: bytes, names: list[str]) -> str | None:
    """None when the damage raises CheckpointError and names a variable or a place, else what happened instead."""
    try:
        open_bundle(index, data).check()
    except CheckpointError as error:
        message = str(error)
        named = any(place in message for place in PLACES) or any(f"variable {name}" in message for name in names)
        return None if named else f"names nothing: {message}"
    return "accepted"


def flipped(content: bytes, position: int, change: int) -> bytes:
    out = bytearray(content)
    out[position] ^= change
    return bytes(out)
