"""Released archives (`.tar.gz`, `.tgz`, `.tar`), read in place: nothing is unpacked under its own name, ever."""

import lzma
import mmap
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from ...errors import CheckpointError
from .bundle import Buffer

# The largest official checkpoint (d7x) has 0.62 GB. A small file that claims much more is not a checkpoint.
MAX_UNPACKED = 16 << 30
IN_MEMORY = 64 << 20  # members beyond this in total go to unnamed temporary files, so that memory stays flat
MAX_INDEX = 256 << 20  # the largest official index is 0.2 MB
CHUNK = 1 << 20
CHECKPOINT_ENDINGS = (".index", "/checkpoint")
# What tarfile and the decompressors below it raise when a file is damaged or hostile: a chain of long-name headers
# ends in RecursionError, an absurd header size in OverflowError or MemoryError.
DAMAGE = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    OSError,
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class Archive:
    """The checkpoint files of a tar archive: {member name: bytes, or a memory map of an unnamed temporary file}.

    Raises CheckpointError for an archive that is damaged, oversized, or has members that are absolute, climb out with
    `..`, or are links or devices: none of the official archives has any, so such a file is not one.
    """

    def __init__(self, path: Path):
        self.path = path
        self.members: dict[str, Buffer] = {}
        self._total = self._in_memory = 0
        try:
            with tarfile.open(path, "r:*") as tar:
                self._read(tar)
        except DAMAGE as error:
            reason = str(error).partition("\n")[0].rstrip(":")  # tarfile lists every compression it tried
            reason = reason or type(error).__name__
            raise CheckpointError(f"{path}: not a readable tar archive, or cut off ({reason}); get it again") from error

    def _read(self, tar: tarfile.TarFile) -> None:
        for member in tar:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise CheckpointError(f"{self.path}: member {member.name!r} points outside the archive; refused")
            if not (member.isfile() or member.isdir()):
                raise CheckpointError(f"{self.path}: member {member.name!r} is a link or a device; refused")
            self._count(member.size)
            if not member.isfile() or not _is_wanted(str(name)):
                continue
            if str(name) in self.members:
                raise CheckpointError(f"{self.path}: member {member.name!r} appears twice; refused")
            if member.size > MAX_INDEX and not _is_data(str(name)):
                raise CheckpointError(
                    f"{self.path}: {member.name!r} has {member.size} bytes, expected at most {MAX_INDEX}"
                )
            source = tar.extractfile(member)
            assert source is not None  # isfile() above
            self._in_memory += member.size
            self.members[str(name)] = _contents(source, member.size, self._in_memory <= IN_MEMORY)
        # tarfile stops at the end mark; only at the end of the file does gzip compare its checksum.
        while tar.fileobj and (rest := tar.fileobj.read(CHUNK)):
            self._count(len(rest))

    def _count(self, size: int) -> None:
        if size < 0:  # would send tarfile back to a header it has read, for ever
            raise CheckpointError(f"{self.path}: a member claims {size} bytes; refused")
        self._total += size
        if self._total > MAX_UNPACKED:
            raise CheckpointError(f"{self.path}: unpacks to more than {MAX_UNPACKED >> 30} GiB; refused")


def _is_wanted(name: str) -> bool:
    return f"/{name}".endswith(CHECKPOINT_ENDINGS) or _is_data(name)


def _is_data(name: str) -> bool:
    return ".data-" in PurePosixPath(name).name


def _contents(source: IO[bytes], size: int, in_memory: bool) -> Buffer:
    if in_memory or size == 0:  # an empty file cannot be mapped
        data = source.read(size)
        if len(data) != size:
            raise EOFError(f"{size} bytes expected, {len(data)} found")
        return data
    with tempfile.TemporaryFile() as file:
        remaining = size
        while remaining:
            chunk = source.read(min(CHUNK, remaining))
            if not chunk:
                raise EOFError(f"{remaining} bytes are missing")
            file.write(chunk)
            remaining -= len(chunk)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
