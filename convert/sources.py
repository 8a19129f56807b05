"""Open a checkpoint, whatever container it comes in, without reading more of it than is asked for."""

import hashlib
import mmap
import os
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ..errors import CheckpointError, first_names
from ..strict_json import json_text
from .formats.archive import MAX_INDEX, Archive
from .formats.bundle import Buffer, Bundle
from .formats.table import masked_crc32c
from .layout import Array

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
GZIP_MAGIC = b"\x1f\x8b"
ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar")


class Container(Enum):
    """The three kinds of official weight files; the value is how people call them."""

    TF1 = "TF1 checkpoint"
    KERAS_OBJECTS = "TF2/Keras object checkpoint"
    H5 = "Keras .h5"


class Variable(NamedTuple):
    """What is known of a variable without reading its data."""

    dtype: str
    shape: tuple[int, ...]


class Checkpoint:
    """Named arrays in one container. `variables` are under the container's own names, in its order.

    `read(name)` gives one array, read-only, and for TensorFlow checkpoints without a copy; `verify()` checks every
    tensor's checksum, used or not, where the container has any; `checksums()` are masked crc32c values by name.
    """

    def __init__(
        self,
        path: Path,
        container: Container,
        variables: dict[str, Variable],
        read: Callable[[str], Array],
        bundle: Bundle | None,
    ):
        self.path = path
        self.container = container
        self.variables = variables
        self.read = read
        self._bundle = bundle
        self._computed: dict[str, int] | None = None

    @property
    def has_checksums(self) -> bool:
        """Whether the container stores a checksum per tensor; `.h5` does not."""
        return self._bundle is not None

    @property
    def has_data(self) -> bool:
        """Whether any of the data is there; an index by itself says what the data should be."""
        return self._bundle is None or self._bundle.has_data()

    def verify(self, report: Callable[[int, int], None] | None = None) -> None:
        """Check every tensor's data against its checksum; `report(done, total)` is told of bytes. No-op for `.h5`.

        Raises CheckpointError naming the tensor that is damaged, missing or overlapping.
        """
        if self._bundle:
            self._bundle.check(report)

    def release(self) -> None:
        """Let the system take back memory-mapped pages; arrays already read stay valid."""
        if self._bundle:
            self._bundle.release()

    def checksums(self) -> dict[str, int]:
        """{name: masked crc32c of the tensor's bytes}: from the index alone where there is one, else computed."""
        if self._bundle:
            return {name: entry.crc for name, entry in self._bundle.entries.items()}
        if self._computed is None:  # once, since it reads every tensor
            self._computed = {name: checksum(self.read(name)) for name in self.variables}
        return self._computed

    def fingerprint(self) -> str:
        """A digest of every tensor's name, type, shape and checksum: equal exactly when the contents are equal."""
        checksums = self.checksums()
        rows = sorted((name, *variable, checksums[name]) for name, variable in self.variables.items())
        return "sha256:" + hashlib.sha256(json_text(rows).encode()).hexdigest()


def open_checkpoint(path: str | os.PathLike[str], *, verify: bool = True) -> Checkpoint:
    """Open a directory, a prefix, an `.index` file, a `.tar.gz`/`.tgz`/`.tar` archive, or an `.h5` file.

    Only indexes are read here; their checksums are verified unless `verify` is False. Raises CheckpointError when there
    is no checkpoint at `path`, or a damaged or unsupported one.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _open_directory(path, verify)
        if path.is_file():
            return _open_file(path, verify)
        return _open_prefix(path, verify)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open_file(path: Path, verify: bool) -> Checkpoint:
    with path.open("rb") as file:
        head = file.read(len(HDF5_MAGIC))
    if path.suffix == ".index":
        return _open_prefix(path.with_suffix(""), verify)
    if ".data-" in path.name:
        return _open_prefix(path.with_name(path.name.rsplit(".data-", 1)[0]), verify)
    if head == HDF5_MAGIC or path.suffix in (".h5", ".hdf5"):
        return _open_h5(path)
    if head.startswith(GZIP_MAGIC) or path.name.endswith(ARCHIVE_ENDINGS):
        return _open_archive(path, verify)
    if path.name == "checkpoint":
        return _open_directory(path.parent, verify)
    if path.with_name(path.name + ".index").is_file():
        return _open_prefix(path, verify)
    raise CheckpointError(
        f"{path}: not a TensorFlow checkpoint; expected a directory, a prefix, or a file ending in .index, .tar.gz, "
        f".tgz, .tar or .h5 (PyTorch weights go to `effconv torch2tf`)"
    )


def _open_directory(directory: Path, verify: bool) -> Checkpoint:
    state = directory / "checkpoint"
    if state.is_file():
        named = _named_prefix(state.read_bytes())
        if named:
            return _open_prefix(directory / named, verify)
    indexes = sorted(directory.glob("*.index"))
    if not indexes and (directory / "saved_model.pb").is_file():
        indexes = sorted((directory / "variables").glob("*.index"))
    if len(indexes) != 1:
        found = first_names([index.name for index in indexes]) or "none"
        raise CheckpointError(f"{directory}: expected one checkpoint, found {found}; name its prefix or .index file")
    return _open_prefix(indexes[0].with_suffix(""), verify)


def _named_prefix(state: bytes) -> str | None:
    """The newest prefix that a directory's `checkpoint` file names (text form of CheckpointState), relative to it."""
    match = re.search(rb'^model_checkpoint_path:\s*"([^"\n]+)"', state, re.MULTILINE)
    named = match.group(1).decode("utf-8", "replace") if match else ""
    # A moved training directory still names its old absolute place; the file beside the state file is meant.
    named = PurePosixPath(named).name if named.startswith("/") else named
    return named if PurePosixPath(named).name else None


def _open_prefix(prefix: Path, verify: bool) -> Checkpoint:
    index = prefix.with_name(prefix.name + ".index")
    if not index.is_file():
        raise CheckpointError(f"{prefix}: no such checkpoint ({index.name} is missing)")
    if index.stat().st_size > MAX_INDEX:
        raise CheckpointError(f"{index}: {index.stat().st_size} bytes, expected at most {MAX_INDEX} for an index")

    def open_shard(suffix: str) -> Buffer:
        shard = prefix.with_name(prefix.name + suffix)
        try:
            with shard.open("rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    return b""
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CheckpointError(
                f"{shard}: this part of the checkpoint cannot be read ({error.strerror}); put it beside the .index"
            ) from error

    return _from_bundle(prefix, Bundle(index.read_bytes(), str(index), open_shard, verify=verify))


def _open_archive(path: Path, verify: bool) -> Checkpoint:
    members = Archive(path).members
    indexes = [name for name in members if name.endswith(".index")]
    if len(indexes) > 1:
        # Several checkpoints, or a SavedModel beside one: the state file says which is meant.
        states = [PurePosixPath(name) for name in members if PurePosixPath(name).name == "checkpoint"]
        named = {str(state.parent / (_named_prefix(bytes(members[str(state)])) or "")) + ".index" for state in states}
        indexes = [name for name in indexes if name in named] or indexes
    if len(indexes) != 1:
        found = first_names(indexes) or "none"
        raise CheckpointError(f"{path}: expected one checkpoint in the archive, found {found}")
    prefix = indexes[0].removesuffix(".index")

    def open_shard(suffix: str) -> Buffer:
        if prefix + suffix not in members:
            raise CheckpointError(f"{path}: the archive lacks {prefix + suffix}; get it again")
        return members[prefix + suffix]

    index = bytes(members[indexes[0]])
    return _from_bundle(path, Bundle(index, f"{path}: {indexes[0]}", open_shard, verify=verify))


def _from_bundle(path: Path, bundle: Bundle) -> Checkpoint:
    variables = {name: Variable(entry.dtype, entry.shape) for name, entry in bundle.entries.items()}
    container = Container.KERAS_OBJECTS if OBJECT_GRAPH in variables else Container.TF1
    return Checkpoint(path, container, variables, bundle.read, bundle)


def _open_h5(path: Path) -> Checkpoint:
    from .formats.hdf5 import WeightsFile  # here, because most checkpoints do without h5py, which is slow to import

    file = WeightsFile(path)
    variables = {
        name: Variable(dataset.dtype.name, tuple(dataset.shape or ())) for name, dataset in file.datasets.items()
    }
    return Checkpoint(path, Container.H5, variables, file.read, None)


def checksum(array: Array) -> int:
    """The masked crc32c of an array's little-endian bytes, as a checkpoint's index would store it."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return masked_crc32c(little.reshape(-1).view(np.uint8))
