"""The sorted string table that a TensorFlow checkpoint's `.index` file is: read and write.

Format: LevelDB `doc/table_format.md`; TensorFlow's copy is `tsl/lib/io/table*.cc`. The file is blocks of
prefix-compressed entries, each followed by a compression type and a masked crc32c; then a meta-index block, an index
block of block handles, and a 48-byte footer. Every byte belongs to one of these, which is checked, so no byte can
change unseen.

Written by hand because libraries for LevelDB (plyvel) open a whole database, its log and manifest, not one table.
"""

from collections.abc import Iterable, Iterator

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointError
from .wire import WireError, read_varint, write_varint

MAGIC = 0xDB4775248B80FB57
FOOTER_SIZE = 48
TRAILER_SIZE = 5
RESTART_INTERVAL = 16
BLOCK_SIZE = 256 * 1024
NO_COMPRESSION, SNAPPY = 0, 1
CRC_MASK_DELTA = 0xA282EAD8
# Keys share prefixes, so that a small file can claim gigabytes of them. The largest official index has 0.24 MB of keys.
MAX_KEY_BYTES = 256 << 20


def masked_crc32c(*pieces: bytes | NDArray[np.uint8]) -> int:
    """crc32c of the concatenated pieces, masked as stored checksums are (so that a checksum of checksums stays sound).

    Source: LevelDB `util/crc32c.h: Mask`.
    """
    crc = 0
    for piece in pieces:
        crc = google_crc32c.extend(crc, piece)
    return ((crc >> 15 | crc << 17) + CRC_MASK_DELTA) & 0xFFFFFFFF


def read_table(data: bytes, source: str, *, verify: bool = True) -> dict[bytes, bytes]:
    """Every key and value of a table, in order. `source` names the file in errors; `verify=False` skips checksums.

    Raises CheckpointError, naming the block, when anything is cut, altered, out of order or compressed.
    """
    reader = _Reader(data, source, verify)
    try:
        return reader.read()
    except WireError as error:
        raise reader.error(str(error)) from error


class _Reader:
    def __init__(self, data: bytes, source: str, verify: bool):
        self.data, self.source, self.verify = data, source, verify
        self.where = "footer"

    def error(self, message: str) -> CheckpointError:
        return CheckpointError(f"{self.source}: {self.where}: {message}; the file is damaged, get it again")

    def read(self) -> dict[bytes, bytes]:
        data = self.data
        if len(data) < FOOTER_SIZE:
            raise self.error(f"expected at least {FOOTER_SIZE} bytes, found {len(data)}")
        footer = data[-FOOTER_SIZE:]
        if int.from_bytes(footer[-8:], "little") != MAGIC:
            raise self.error("no TensorFlow checkpoint index (magic number missing), or cut off")
        meta, position = self.handle(footer, 0)
        index, position = self.handle(footer, position)
        if any(footer[position:-8]):
            raise self.error("padding is not zero")
        end = self.check_next("meta-index block", meta, index[0] - meta[1] - TRAILER_SIZE)
        end = self.check_next("index block", index, end)
        if end != len(data) - FOOTER_SIZE:
            raise self.error(f"ends at byte {end}, but the footer starts at {len(data) - FOOTER_SIZE}")
        self.where = "meta-index block"
        if any(True for _ in self.entries(self.block(meta))):
            raise self.error("expected no entries")
        self.where = "index block"
        handles = [(key, self.handle(value, 0)[0]) for key, value in self.entries(self.block(index))]
        return self.read_blocks(handles, meta[0])

    def read_blocks(self, handles: list[tuple[bytes, tuple[int, int]]], end: int) -> dict[bytes, bytes]:
        items: dict[bytes, bytes] = {}
        last = None
        position = key_bytes = 0
        for number, (separator, handle) in enumerate(handles):
            position = self.check_next(f"data block {number}", handle, position)
            for key, value in self.entries(self.block(handle)):
                if last is not None and key <= last:
                    raise self.error(f"key {key!r} is out of order")
                key_bytes += len(key)
                if key_bytes > MAX_KEY_BYTES:
                    raise self.error(f"the keys take more than {MAX_KEY_BYTES} bytes")
                items[key] = value
                last = key
            if last is not None and separator < last:
                raise self.error(f"key {last!r} lies beyond the block's end key")
        if position != end:
            self.where = "data blocks"
            raise self.error(f"end at byte {position}, expected {end}")
        return items

    def handle(self, data: bytes, position: int) -> tuple[tuple[int, int], int]:
        offset, position = read_varint(data, position)
        size, position = read_varint(data, position)
        return (offset, size), position

    def check_next(self, where: str, handle: tuple[int, int], expected: int) -> int:
        """Set the place named in errors; check that the block starts where the last ended; return where it ends."""
        self.where = where
        offset, size = handle
        if offset != expected or offset + size + TRAILER_SIZE > len(self.data) - FOOTER_SIZE:
            raise self.error(f"expected at byte {expected} of {len(self.data)}, found at {offset} with {size} bytes")
        return offset + size + TRAILER_SIZE

    def block(self, handle: tuple[int, int]) -> bytes:
        offset, size = handle
        content = self.data[offset : offset + size]
        compression = self.data[offset + size]
        if self.verify:
            stored = int.from_bytes(self.data[offset + size + 1 : offset + size + TRAILER_SIZE], "little")
            found = masked_crc32c(self.data[offset : offset + size + 1])
            if found != stored:
                raise self.error(f"checksum {stored:08x} expected, {found:08x} found")
        if compression == SNAPPY:
            raise CheckpointError(
                f"{self.source}: {self.where} is snappy-compressed, which effconv does not read; "
                f"save the checkpoint again with TensorFlow, which writes it uncompressed"
            )
        if compression != NO_COMPRESSION:
            raise self.error(f"unknown compression type {compression}")
        return content

    def entries(self, block: bytes) -> Iterator[tuple[bytes, bytes]]:
        if len(block) < 4:
            raise self.error("too short to hold its restart count")
        restarts = int.from_bytes(block[-4:], "little")
        end = len(block) - 4 * (restarts + 1)
        if restarts == 0 or end < 0:
            raise self.error(f"{restarts} restart points do not fit in {len(block)} bytes")
        key = b""
        position = 0
        while position < end:
            shared, position = read_varint(block, position)
            unshared, position = read_varint(block, position)
            length, position = read_varint(block, position)
            if shared > len(key) or position + unshared + length > end:
                raise self.error(f"the entry after key {key!r} does not fit")
            key = key[:shared] + block[position : position + unshared]
            position += unshared
            yield key, block[position : position + length]
            position += length


def write_table(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table of `items`, whose keys must ascend: the same bytes that TensorFlow's own writer makes of them."""
    out = bytearray()
    index = _BlockBuilder(restart_interval=1)
    block = _BlockBuilder()
    for key, value in items:
        if block.size >= BLOCK_SIZE:
            index.add(_separator(block.last_key, key), _append_block(out, block))
            block = _BlockBuilder()
        block.add(key, value)
    if block.last_key or block.size:
        index.add(_successor(block.last_key), _append_block(out, block))
    footer = _append_block(out, _BlockBuilder()) + _append_block(out, index)
    out += footer.ljust(FOOTER_SIZE - 8, b"\0") + MAGIC.to_bytes(8, "little")
    return bytes(out)


class _BlockBuilder:
    def __init__(self, restart_interval: int = RESTART_INTERVAL):
        self.interval = restart_interval
        self.data = bytearray()
        self.restarts = [0]
        self.count = 0
        self.last_key = b""

    @property
    def size(self) -> int:
        return len(self.data) + 4 * (len(self.restarts) + 1) if self.count else 0

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.count and self.count % self.interval == 0:
            self.restarts.append(len(self.data))
        elif self.count:
            limit = min(len(key), len(self.last_key))
            while shared < limit and key[shared] == self.last_key[shared]:
                shared += 1
        self.data += write_varint(shared) + write_varint(len(key) - shared) + write_varint(len(value))
        self.data += key[shared:] + value
        self.last_key = key
        self.count += 1

    def finish(self) -> bytes:
        points = [*self.restarts, len(self.restarts)]
        return bytes(self.data) + b"".join(point.to_bytes(4, "little") for point in points)


def _append_block(out: bytearray, block: _BlockBuilder) -> bytes:
    content = block.finish() + bytes([NO_COMPRESSION])
    handle = write_varint(len(out)) + write_varint(len(content) - 1)
    out += content + masked_crc32c(content).to_bytes(4, "little")
    return handle


def _separator(last: bytes, following: bytes) -> bytes:
    """The shortest key in last..following (LevelDB `util/comparator.cc: FindShortestSeparator`)."""
    limit = min(len(last), len(following))
    same = next((i for i in range(limit) if last[i] != following[i]), limit)
    if same < limit and last[same] < 0xFF and last[same] + 1 < following[same]:
        return last[:same] + bytes([last[same] + 1])
    return last


def _successor(last: bytes) -> bytes:
    """The shortest key not below `last` (LevelDB `util/comparator.cc: FindShortSuccessor`)."""
    for position, byte in enumerate(last):
        if byte != 0xFF:
            return last[:position] + bytes([byte + 1])
    return last
