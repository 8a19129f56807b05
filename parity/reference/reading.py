"""A checkpoint read by TensorFlow itself: the reference owes nothing to our reader, rules or choice of averages.

Which variables there are to read is what the official network (`network.py`) asks for when it is put together.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...convert.formats.archive import Archive
from ...effdet_torch.config import Config
from ...errors import CheckpointError
from .network import OfficialNetwork, import_tensorflow

AVERAGE = "/ExponentialMovingAverage"
INITIAL = {"/gamma": 1, "/beta": 0}  # what a batch norm's variables hold before training, by the end of their names

# What a reference says of where its weights were read, and where both sides have it from us.
BY_TENSORFLOW = "by TensorFlow"
NOT_COVERED = "by effconv (not covered by this comparison)"

Variables = dict[str, NDArray[np.float32]]


def read_with_tensorflow(
    path: Path, config: Config, weights: str | None, prefix: Path | None
) -> tuple[Variables, str] | None:
    """({official TF1 name: array as stored}, which weights: "ema", "raw" or "only") of a TF1 checkpoint.

    `path` is what the user named and `prefix` the checkpoint's place on disk where TensorFlow finds none by itself;
    None for an archive, which is unpacked for the time of reading. `weights` is as for `official_variables`. Returns
    None for an archive of several checkpoints that TensorFlow does not choose from. Raises CheckpointError for what
    TensorFlow cannot read, or where it lacks a variable of the official network.
    """
    tensorflow = import_tensorflow()
    if prefix is not None:
        latest = tensorflow.train.latest_checkpoint(str(path)) if path.is_dir() else None
        return _read(path, latest or str(prefix), config, weights)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            found = _unpack(path, Path(temporary))
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be unpacked to be read ({error.strerror or error})") from error
        return _read(path, found, config, weights) if found else None


def _unpack(path: Path, target: Path) -> str | None:
    """Write an archive's checkpoint files, a folder of ours for each of its own; the prefix TensorFlow chooses."""
    latest = import_tensorflow().train.latest_checkpoint
    folders: dict[PurePosixPath, Path] = {}
    for name, content in Archive(path).members.items():
        member = PurePosixPath(name)
        folder = folders.setdefault(member.parent, target / str(len(folders)))
        folder.mkdir(exist_ok=True)
        (folder / member.name).write_bytes(content)
    chosen = [found for folder in folders.values() if (found := latest(str(folder)))]
    chosen = chosen or [str(index.with_suffix("")) for index in target.glob("*/*.index")]
    return chosen[0] if len(chosen) == 1 else None


def _read(path: Path, prefix: str, config: Config, weights: str | None) -> tuple[Variables, str]:
    tensorflow = import_tensorflow()

    def get(name: str) -> NDArray[np.float32]:
        try:
            return np.asarray(reader.get_tensor(name))  # a scalar variable comes as a bare number
        except tensorflow.errors.OpError as error:
            raise _unreadable(path, name, error) from error

    try:
        reader = tensorflow.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
    except (tensorflow.errors.OpError, ValueError) as error:
        raise _unreadable(path, "it", error) from error
    names = official_names(config, shapes, path)
    averaged = any(name + AVERAGE in shapes for name in names)
    # An export puts the averages into the plain variables and leaves the shadows as they were before training.
    exported = averaged and _is_untrained(names, AVERAGE, shapes, get) and not _is_untrained(names, "", shapes, get)
    asked = "raw" if weights == "raw" else "ema"
    kind = "only" if not averaged or exported else asked
    chosen = {name: name + AVERAGE if kind == "ema" and name + AVERAGE in shapes else name for name in names}
    return {name: get(stored) for name, stored in chosen.items()}, kind


def _unreadable(path: Path, what: str, error: Exception) -> CheckpointError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return CheckpointError(f"{path}: TensorFlow cannot read {what} ({reason})")


def _is_untrained(
    names: list[str], suffix: str, shapes: Mapping[str, Any], get: Callable[[str], NDArray[np.float32]]
) -> bool:
    """Whether every batch norm's scale is one and every offset zero."""
    return all(
        name + suffix in shapes and np.all(get(name + suffix) == value)
        for name in names
        for ending, value in INITIAL.items()
        if name.endswith(ending)
    )


class _Asked(dict[str, Any]):
    """Stands for a network's variables, of which the shapes are given, and keeps the names it was asked for."""

    def __init__(self, shapes: Mapping[str, Any], path: Path):
        super().__init__(shapes)
        self.path, self.names = path, dict[str, None]()

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise CheckpointError(f"{self.path}: TensorFlow finds no {name} in it, which the official network needs")
        self.names[name] = None
        return import_tensorflow().zeros(super().__getitem__(name))


def official_names(config: Config, shapes: Mapping[str, Any], path: Path) -> list[str]:
    """The variables the official network looks up, of a checkpoint at `path` with `shapes`, in that order.

    The network is put together as a graph, so nothing is computed. Raises CheckpointError where one is missing.
    """
    tensorflow = import_tensorflow()
    side = 2**config.max_level  # the smallest image that leaves every level a cell
    with tensorflow.Graph().as_default():
        network = OfficialNetwork(config, {}, "float32")
        network.variables = asked = _Asked(shapes, path)
        for _ in network.run(tensorflow.zeros([1, side, side, 3])):
            pass
    return list(asked.names)
