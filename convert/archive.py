"""Released archives (`.tar.gz`, `.tgz`, `.tar`), read in place: nothing is unpacked under its own name, ever."""

import mmap
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import CheckpointError
from .bundle import Buffer

# The largest official archive (d7x) unpacks to 0.7 GB. A small file that claims much more is not a checkpoint.
MAX_UNPACKED = 16 << 30
IN_MEMORY = 64 << 20  # larger members go to an unnamed temporary file, so that memory stays flat
CHUNK = 1 << 20
CHECKPOINT_ENDINGS = (".index", "/checkpoint")


class Archive:
    """The checkpoint files of a tar archive: {member name: bytes, or a memory map of an unnamed temporary file}.

    Raises CheckpointError for an archive that is damaged, oversized, or has members that are absolute, climb out with
    `..`, or are links or devices: none of the official archives has any, so such a file is not one.
    """

    def __init__(self, path: Path):
        self.path = path
        self.members: dict[str, Buffer] = {}
        try:
            with tarfile.open(path, "r:*") as tar:
                self._read(tar)
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0].rstrip(":")  # tarfile lists every compression it tried
            raise CheckpointError(f"{path}: not a readable tar archive, or cut off ({reason}); get it again") from error

    def _read(self, tar: tarfile.TarFile) -> None:
        total = 0
        for member in tar:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise CheckpointError(f"{self.path}: member {member.name!r} points outside the archive; refused")
            if not (member.isfile() or member.isdir()):
                raise CheckpointError(f"{self.path}: member {member.name!r} is a link or a device; refused")
            total += member.size
            if total > MAX_UNPACKED:
                raise CheckpointError(f"{self.path}: unpacks to more than {MAX_UNPACKED >> 30} GiB; refused")
            if not member.isfile() or not _is_wanted(str(name)):
                continue
            if str(name) in self.members:
                raise CheckpointError(f"{self.path}: member {member.name!r} appears twice; refused")
            source = tar.extractfile(member)
            assert source is not None  # isfile() above
            self.members[str(name)] = _contents(source, member.size)


def _is_wanted(name: str) -> bool:
    return f"/{name}".endswith(CHECKPOINT_ENDINGS) or ".data-" in PurePosixPath(name).name


def _contents(source: IO[bytes], size: int) -> Buffer:
    if size <= IN_MEMORY:
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
