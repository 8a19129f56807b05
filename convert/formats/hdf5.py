"""Keras weight files (`.h5`), read and written without Keras.

Format: Keras `saving/legacy/hdf5_format.py: save_weights_to_hdf5_group`. Each top layer is a group; its attribute
`weight_names`, or `weight_names0`, `weight_names1`, ... where one attribute cannot hold them all, lists its datasets.
h5py reads the container; only Keras's way of naming what is in it is written by hand.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...errors import CheckpointError, first_names
from ..layout import Array

KERAS_VERSION = "2.15.0"  # whose layout is written; readers ask whether it is 1, of other kernels
MODEL_GROUP = "top_level_model_weights"  # of variables that belong to no layer; the official models have none
MAX_ATTRIBUTE = 64512  # bytes of names in one attribute, Keras's HDF5_OBJECT_HEADER_LIMIT
WEIGHTS_GROUP = "model_weights"  # where a whole saved model keeps what a weights-only file has at its root
MAX_OBJECTS = 100_000
MAX_DEPTH = 64
MAX_RATIO = 1032  # no compression that HDF5 has by default shrinks more; weight files have none
# What h5py raises when a file is damaged, besides OSError.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)


class WeightsFile:
    """The datasets of a Keras `.h5` file by path; those of the optimizer keep their group's name.

    Raises CheckpointError when the file is damaged, lists datasets it does not have, or reaches outside itself: soft
    and external links, external storage and virtual datasets are refused.
    """

    def __init__(self, path: Path):
        self.path = path
        self.datasets: dict[str, h5py.Dataset] = {}
        self._objects = 0
        try:
            self._file_size = path.stat().st_size
            # Locking would need write access to a read-only or shared file system.
            self._file = h5py.File(path, "r", locking=False)
            top = "/" + WEIGHTS_GROUP if WEIGHTS_GROUP in self._file else ""
            self._walk(self._file, "", 0)
            listed = _listed_paths(self._file[top] if top else self._file)
        except DAMAGE as error:
            raise CheckpointError(f"{path}: not a readable HDF5 file, or damaged ({error})") from error
        self.datasets = {name.removeprefix(top): dataset for name, dataset in self.datasets.items()}
        missing = sorted(listed - set(self.datasets))
        if missing:
            raise CheckpointError(f"{path}: lists weights it does not hold: {first_names(missing)}; get it again")
        if not listed:
            raise CheckpointError(f"{path}: an HDF5 file without Keras weights (no layer_names and weight_names)")

    def read(self, name: str) -> Array:
        """The dataset `name`, in native byte order. Raises CheckpointError when it cannot be read."""
        try:
            array: Array = np.asarray(self.datasets[name][()])
        except DAMAGE as error:
            raise CheckpointError(
                f"{self.path}: weight {name} cannot be read ({error}); damaged, get it again"
            ) from error
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _walk(self, group: h5py.Group, prefix: str, depth: int) -> None:
        for key in group:
            name = f"{prefix}/{key}"
            self._objects += 1
            if depth > MAX_DEPTH or self._objects > MAX_OBJECTS:
                raise CheckpointError(f"{self.path}: groups nest or repeat without end at {name[:80]}; refused")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise CheckpointError(f"{self.path}: {name} is a link to somewhere else; refused")
            value = group[key]
            if isinstance(value, h5py.Group):
                self._walk(value, name, depth + 1)
            elif isinstance(value, h5py.Dataset):
                if value.external or value.is_virtual:
                    raise CheckpointError(f"{self.path}: {name} keeps its data in another file; refused")
                if value.dtype.kind not in "biufc":
                    raise CheckpointError(f"{self.path}: {name} is {value.dtype}, expected numbers; refused")
                if value.nbytes > MAX_RATIO * self._file_size:
                    raise CheckpointError(
                        f"{self.path}: {name} claims {value.nbytes} bytes in a file of {self._file_size}; refused"
                    )
                self.datasets[name] = value


def _attribute(group: h5py.Group, name: str) -> list[str]:
    """An attribute that lists names, whole or split into numbered parts."""
    values: list[Any] = []
    if name in group.attrs:
        values.extend(group.attrs[name])
    part = 0
    while f"{name}{part}" in group.attrs:
        values.extend(group.attrs[f"{name}{part}"])
        part += 1
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _listed_paths(root: h5py.Group) -> set[str]:
    return {
        f"/{layer}/{weight}"
        for layer in _attribute(root, "layer_names")
        for weight in _attribute(root[layer], "weight_names")
    }


def weights_file(layers: Mapping[str, Mapping[str, Array]]) -> memoryview:
    """The bytes of a `.h5` file of {top layer: {name of a weight: array}}, both in the order that Keras has them in.

    Loading without names goes by that order alone. Made in memory, where HDF5 cannot run out of disk half way.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _list_names(file, "layer_names", list(layers))
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = KERAS_VERSION.encode()
        for layer, weights in layers.items():
            group = file.create_group(layer)
            _list_names(group, "weight_names", list(weights))
            for name, array in weights.items():
                group.create_dataset(name, data=array)
        _list_names(file.create_group(MODEL_GROUP), "weight_names", [])
    return buffer.getbuffer()


def _list_names(group: h5py.Group, attribute: str, names: Sequence[str]) -> None:
    """Keras `save_attributes_to_hdf5_group`: one attribute, or as many numbered ones as they need."""
    encoded = [name.encode() for name in names]
    parts, table = 1, np.array(encoded)
    while any(part.nbytes > MAX_ATTRIBUTE for part in np.array_split(table, parts)):
        parts += 1
    if parts == 1:
        group.attrs[attribute] = encoded
        return
    for number, part in enumerate(np.array_split(table, parts)):
        group.attrs[f"{attribute}{number}"] = part
