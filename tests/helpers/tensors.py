"""Checkpoints as plain dictionaries of arrays, for the tests of conversion."""

from pathlib import Path

import numpy as np

from effconv.convert.formats.bundle import write_bundle
from effconv.convert.sources import open_checkpoint
from effconv.effdet_torch.config import Config, get_config

Tensors = dict[str, np.ndarray]


def config_of(folder: Path) -> Config:
    return get_config(str(folder / "config.json"))


def read_all(path: Path) -> Tensors:
    checkpoint = open_checkpoint(path)
    return {
        name: checkpoint.read(name) for name, variable in checkpoint.variables.items() if variable.dtype != "string"
    }


def write_tensors(prefix: Path, tensors: Tensors) -> Path:
    index, data = write_bundle(tensors)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(prefix.name + ".index").write_bytes(index)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(b"".join(array.tobytes() for array in data))
    return prefix


def same_bits(ours: Tensors, theirs: Tensors) -> None:
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        other = theirs[name]
        assert (array.dtype, array.shape, array.tobytes()) == (other.dtype, other.shape, other.tobytes()), name
