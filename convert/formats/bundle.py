"""TensorFlow's checkpoint format, TensorBundle: read and write.

Format: TensorFlow `core/util/tensor_bundle/` and `core/protobuf/tensor_bundle.proto`. `PREFIX.index` is a sorted table
whose empty key holds a BundleHeaderProto and whose other keys are tensor names, each with a BundleEntryProto;
`PREFIX.data-SSSSS-of-NNNNN` are the tensors' little-endian bytes, one after another.

Written by hand because TensorFlow alone has a reader, and converting must not need it: the whole command takes 0.38 s
and 73 MB for efficientdet-d0, with TensorFlow's reader 6.1 s and 821 MB (`results/measured/convert-d0.json`).
"""

import contextlib
import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointError
from ..layout import Array
from .table import masked_crc32c, read_table, write_table
from .wire import WireError, bytes_field, fixed32_field, read_fields, read_varint, varint_field, write_varint

Buffer = bytes | mmap.mmap
Bytes = NDArray[np.uint8]
STRING = 7
# DataType of tensorflow/core/framework/types.proto: (name, bytes per element). Strings have no fixed size.
DTYPES = {
    1: ("float32", 4),
    2: ("float64", 8),
    3: ("int32", 4),
    4: ("uint8", 1),
    5: ("int16", 2),
    6: ("int8", 1),
    STRING: ("string", 0),
    8: ("complex64", 8),
    9: ("int64", 8),
    10: ("bool", 1),
    14: ("bfloat16", 2),
    17: ("uint16", 2),
    18: ("complex128", 16),
    19: ("float16", 2),
    22: ("uint32", 4),
    23: ("uint64", 8),
}
DTYPE_NUMBERS = {name: number for number, (name, _) in DTYPES.items()}
MAX_SHARDS = 100_000
MAX_RANK = 32
MAX_ELEMENTS = 1 << 48  # without the axes of size 0; far from what numpy cannot represent
RELEASE_BYTES = 16 << 20  # pages of a memory map are handed back each time this much was used


class Entry(NamedTuple):
    """Where a tensor lies and what it is; `crc` is the masked crc32c of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


class Bundle:
    """A checkpoint whose index has been read and whose shards are opened when first needed.

    `open_shard` maps a file name suffix such as `.data-00000-of-00001` to the bytes of that file; it raises
    CheckpointError when there is none. `entries` are in the index's order, which is that of the names.
    """

    def __init__(self, index: bytes, source: str, open_shard: Callable[[str], Buffer], *, verify: bool = True):
        self.source = source
        self._open_shard = open_shard
        self._maps: list[mmap.mmap] = []
        self._shards: dict[int, Bytes] = {}
        self.entries: dict[str, Entry] = {}
        table = read_table(index, source, verify=verify)
        self.shard_count = self._read_header(table.pop(b"", None))
        for key, value in table.items():
            if key.startswith(b"\0"):  # TensorFlow's key of a slice: a zero, the name, its end mark, the extents
                raise self._sliced(key[1:].partition(b"\0\1")[0].decode("utf-8", "replace"))
            try:
                name = key.decode("utf-8")
                self.entries[name] = self._read_entry(name, value)
            except (WireError, UnicodeDecodeError) as error:
                raise CheckpointError(f"{source}: entry {key!r} is malformed ({error})") from error

    def _read_header(self, header: bytes | None) -> int:
        if header is None:
            raise CheckpointError(f"{self.source}: no bundle header: a sorted table, but not a TensorFlow checkpoint")
        shards = endianness = 0
        try:
            for number, value in read_fields(header):
                if number == 1 and isinstance(value, int):
                    shards = value
                elif number == 2 and isinstance(value, int):
                    endianness = value
        except WireError as error:
            raise CheckpointError(f"{self.source}: the bundle header is malformed ({error})") from error
        if endianness != 0:
            raise CheckpointError(f"{self.source}: written on a big-endian machine, which effconv does not read")
        if not 1 <= shards <= MAX_SHARDS:
            raise CheckpointError(f"{self.source}: the bundle header says {shards} shards, expected 1..{MAX_SHARDS}")
        return shards

    def _sliced(self, name: str) -> CheckpointError:
        return CheckpointError(
            f"{self.source}: variable {name} is stored in slices (a partitioned variable), which effconv does "
            f"not read; save the checkpoint again without a partitioner"
        )

    def _read_entry(self, name: str, message: bytes) -> Entry:
        numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}  # dtype, shard, offset, size, crc
        shape: tuple[int, ...] = ()
        for number, value in read_fields(message):
            if number in numbers and isinstance(value, int):
                numbers[number] = value
            elif number == 2 and isinstance(value, bytes):
                shape = _read_shape(value)
            elif number == 7:
                raise self._sliced(name)
        dtype, shard, offset, size, crc = numbers.values()
        if dtype not in DTYPES:
            raise CheckpointError(f"{self.source}: variable {name} has data type number {dtype}, which is not known")
        label, width = DTYPES[dtype]
        if dtype != STRING and math.prod(shape) * width != size:
            raise CheckpointError(f"{self.source}: variable {name}: {label} {list(shape)} cannot take {size} bytes")
        if shard >= self.shard_count:
            raise CheckpointError(f"{self.source}: variable {name} is in shard {shard} of {self.shard_count}")
        return Entry(label, shape, shard, offset, size, crc)

    def read(self, name: str) -> Array:
        """The tensor `name`, read-only, without a copy. Raises CheckpointError for strings and bfloat16."""
        entry = self.entries[name]
        if entry.dtype in ("string", "bfloat16"):
            raise CheckpointError(f"{self.source}: variable {name} is {entry.dtype}, which is no array of numbers here")
        return self._bytes(name, entry).view(np.dtype(entry.dtype).newbyteorder("<")).reshape(entry.shape)

    def has_data(self) -> bool:
        """Whether at least one shard can be opened."""
        for number in range(self.shard_count):
            with contextlib.suppress(CheckpointError):  # what is missing of several is named by `check`
                self._shard(number)
                return True
        return False

    def check(self, report: Callable[[int, int], None] | None = None) -> None:
        """Verify the checksum of every tensor, and that every byte of every shard belongs to one.

        `report(done, total)` is told of bytes checked. Raises CheckpointError naming the first tensor that is wrong.
        """
        total = sum(entry.size for entry in self.entries.values())
        done = since_release = 0
        for shard in range(self.shard_count):
            position = 0
            for name, entry in self._in_file_order(shard):
                if entry.offset < position:
                    raise CheckpointError(f"{self.source}: variable {name} overlaps the one before it; damaged index")
                self._check_gap(shard, position, entry.offset, f"before {name}")
                self._check_tensor(name, entry)
                position = entry.offset + entry.size
                done += entry.size
                since_release += entry.size
                if since_release > RELEASE_BYTES:
                    self.release()
                    since_release = 0
                if report:
                    report(done, total)
            self._check_gap(shard, position, len(self._shard(shard)), "after the last variable")
        self.release()

    def release(self) -> None:
        """Hand the pages of the shards' memory maps back to the system; arrays already read stay valid."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for pages in self._maps:
                pages.madvise(mmap.MADV_DONTNEED)

    def _in_file_order(self, shard: int) -> list[tuple[str, Entry]]:
        entries = [(name, entry) for name, entry in self.entries.items() if entry.shard == shard]
        return sorted(entries, key=lambda item: (item[1].offset, item[1].size))

    def _check_tensor(self, name: str, entry: Entry) -> None:
        pieces: list[bytes | Bytes] = [self._bytes(name, entry)]
        if entry.dtype == "string":
            try:
                pieces = list(_string_pieces(self._bytes(name, entry).tobytes(), math.prod(entry.shape)))
            except WireError as error:
                raise CheckpointError(f"{self.source}: variable {name}: {error}; the data file is damaged") from error
        found = masked_crc32c(*pieces)
        if found != entry.crc:
            raise CheckpointError(
                f"{self.source}: variable {name}: checksum {entry.crc:08x} expected, {found:08x} found; "
                "the data file is damaged: get it again, or read it as it is, unverified",
                parameters={"verify": False},
            )

    def _check_gap(self, shard: int, start: int, end: int, where: str) -> None:
        # Writers may align tensors with zero bytes; anything else that no tensor owns was put there by an accident.
        if self._shard(shard)[start:end].any():
            raise CheckpointError(
                f"{self.source}: shard {shard}: bytes {start} to {end} {where} belong to no variable; "
                f"the data file is damaged or of another checkpoint"
            )

    def _bytes(self, name: str, entry: Entry) -> Bytes:
        shard = self._shard(entry.shard)
        if entry.offset + entry.size > len(shard):
            raise CheckpointError(
                f"{self.source}: variable {name} ends at byte {entry.offset + entry.size} of shard {entry.shard}, "
                f"which has {len(shard)}; the data file is cut off or of another checkpoint"
            )
        return shard[entry.offset : entry.offset + entry.size]

    def _shard(self, number: int) -> Bytes:
        if number not in self._shards:
            data = self._open_shard(shard_suffix(number, self.shard_count))
            if isinstance(data, mmap.mmap):
                self._maps.append(data)
            self._shards[number] = np.frombuffer(data, np.uint8) if len(data) else np.empty(0, np.uint8)
        return self._shards[number]


def shard_suffix(number: int, count: int) -> str:
    """What follows the prefix in a shard's file name."""
    return f".data-{number:05d}-of-{count:05d}"


@lru_cache(maxsize=4096)  # a model has a thousand variables and a hundred shapes
def _read_shape(message: bytes) -> tuple[int, ...]:
    shape = []
    for number, dimension in read_fields(message):
        if number == 2 and isinstance(dimension, bytes):
            sizes = [value for field, value in read_fields(dimension) if field == 1 and isinstance(value, int)]
            shape.append(sizes[-1] if sizes else 0)
        elif number == 3:
            raise WireError("its rank is unknown")
    if len(shape) > MAX_RANK:
        raise WireError(f"it has {len(shape)} axes, expected at most {MAX_RANK}")
    if math.prod(size for size in shape if size) > MAX_ELEMENTS:
        raise WireError(f"its shape {shape} is impossible")
    return tuple(shape)


def _string_pieces(raw: bytes, count: int) -> Iterator[bytes]:
    """The bytes a string tensor's checksum covers: lengths as 32-bit (if large, 64-bit) values, their checksum, text.

    Source: TensorFlow `core/util/tensor_bundle/tensor_bundle.cc: WriteStringTensor`.
    """
    position = total = 0
    lengths = []
    for _ in range(count):
        length, position = read_varint(raw, position)
        lengths.append(length.to_bytes(4 if length < 1 << 32 else 8, "little"))
        total += length
    if position + 4 + total != len(raw):
        raise WireError(f"its strings take {total} bytes, {len(raw) - position - 4} are there")
    if masked_crc32c(*lengths) != int.from_bytes(raw[position : position + 4], "little"):
        raise WireError("the checksum of its string lengths is wrong")
    yield from lengths
    yield raw[position:]


def write_bundle(tensors: Mapping[str, Array | bytes]) -> tuple[bytes, Iterable[Array]]:
    """(the bytes of the index file, the arrays whose bytes in sequence are the single data shard).

    Bytes stand for a scalar string. Names are sorted, as TensorFlow sorts them; both files equal what it writes for the
    same tensors. Raises CheckpointError for a data type that checkpoints do not have.
    """
    arrays: list[Array] = []
    items = [(b"", varint_field(1, 1) + bytes_field(3, varint_field(1, 1)))]  # one shard; producer version 1
    offset = 0
    for name in sorted(tensors, key=str.encode):
        value = tensors[name]
        if isinstance(value, bytes):
            dtype, (array, crc) = "string", _stored_string(value)
        else:
            array = np.ascontiguousarray(value).reshape(value.shape)
            dtype = array.dtype.name
            if dtype not in DTYPE_NUMBERS:
                raise CheckpointError(f"variable {name} has data type {array.dtype}, which a checkpoint cannot hold")
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            crc = masked_crc32c(array.reshape(-1).view(np.uint8))
        shape: tuple[int, ...] = () if isinstance(value, bytes) else value.shape
        dimensions = b"".join(bytes_field(2, varint_field(1, length)) for length in shape)
        entry = varint_field(1, DTYPE_NUMBERS[dtype]) + bytes_field(2, dimensions)
        entry += varint_field(4, offset) + varint_field(5, array.nbytes)
        items.append((name.encode(), entry + fixed32_field(6, crc)))
        arrays.append(array)
        offset += array.nbytes
    return write_table(items), arrays


def _stored_string(text: bytes) -> tuple[Bytes, int]:
    """(the bytes of a scalar string in a shard, its entry's checksum); what `_string_pieces` reads."""
    length = len(text).to_bytes(4 if len(text) < 1 << 32 else 8, "little")
    raw = write_varint(len(text)) + masked_crc32c(length).to_bytes(4, "little") + text
    return np.frombuffer(raw, np.uint8), masked_crc32c(*_string_pieces(raw, 1))
