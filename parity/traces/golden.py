"""Recorded activations of the official code (`.npz`), packed so that a whole model's fit in a repository.

A file holds many named tensors. A small one is whole; of a large one every step-th value of the flattened array is
kept. Steps share no factor with the sizes, so a sample visits every channel.
"""

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...convert.layers import layers
from ...effdet_torch.config import Config
from ...errors import EffconvError
from .trace import Activation, Kind

# Entries of a record that are no activation of the network, and the prefix of the graph operations' own entries.
NOT_LAYERS = ("anchors",)
NOT_LAYER_PREFIX = "RAW_NOT_EMA/"
OPERATION_PREFIX = "ops/"
NOISE_SEED = 20240501  # the second image of every recorded batch


class GoldenTensor(NamedTuple):
    """A sample of one recorded tensor: every `step`-th value of its flattened (N, H, W, C) array."""

    shape: tuple[int, ...]
    step: int
    sample: NDArray[np.float32]


class Golden:
    """A recorded run: `names` in order, `golden[name]` a tensor, `images` the batch it was computed from.

    Raises EffconvError when the file is missing or is no such record.
    """

    def __init__(self, path: Path):
        try:
            with np.load(path, allow_pickle=False) as archive:
                fields = {name: archive[name] for name in archive.files}
            self.names = [str(name) for name in fields["names"]]
            self.meta: dict[str, Any] = json.loads(str(fields["meta"]))
            self._rows = {name: row for row, name in enumerate(self.names)}
            self._fields = {key: fields[key] for key in ("shapes", "steps", "offsets", "counts", "data")}
            self._photo = fields["input_photo"]
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise EffconvError(f"{path}: not a readable record of activations ({error})") from error

    def __getitem__(self, name: str) -> GoldenTensor:
        row = self._rows[name]
        fields = self._fields
        start, count = int(fields["offsets"][row]), int(fields["counts"][row])
        shape = tuple(int(size) for size in fields["shapes"][row] if size >= 0)
        return GoldenTensor(shape, int(fields["steps"][row]), fields["data"][start : start + count])

    def images(self) -> NDArray[np.float32]:
        """(2, 3, H, W) float32: the recorded photograph, preprocessed, and seeded noise."""
        noise = np.random.RandomState(NOISE_SEED).standard_normal(self._photo.shape).astype(np.float32)
        return np.ascontiguousarray(np.stack([self._photo, noise]).transpose(0, 3, 1, 2))


class GoldenTrace:
    """A recorded run of the official code as a trace: float32, and of large layers a sample.

    A recorded name that is no layer of `config` is passed on under that name, so that comparing fails.
    """

    kinds: tuple[Kind, ...] = ("accumulated",)  # the inputs of most layers are recorded in part only
    exact = False

    def __init__(self, golden: Golden, config: Config, path: Path):
        self.config, self.images = config, golden.images()
        label = f"recorded run of the official code, {path.name}"
        self.source = {"kind": "golden", "label": label, "model": golden.meta.get("model")}
        self._golden = golden
        rows = layers(config)
        self.required = endpoints(config)
        self._names: list[tuple[str, str]] = []  # (our key, name in the record), in the order of computation
        for layer in rows:
            names = (*layer.endpoints, OPERATION_PREFIX + layer.operation)
            self._names += [(layer.key, name) for name in names if name in golden.names][:1]
        known = {name for layer in rows for name in layer.endpoints} | set(NOT_LAYERS)
        prefixes = (OPERATION_PREFIX, NOT_LAYER_PREFIX)
        self._names += [(name, name) for name in golden.names if name not in known and not name.startswith(prefixes)]

    def activations(self, kind: Kind) -> Iterator[Activation]:
        """Every recorded layer. Raises ValueError for a kind this trace has not."""
        if kind not in self.kinds:
            raise ValueError(f"a golden has {self.kinds}, not {kind!r}")
        for key, name in self._names:
            tensor = self._golden[name]
            values = tensor.sample if tensor.step > 1 else tensor.sample.reshape(tensor.shape)
            yield Activation(key, values, shape=tensor.shape, step=tensor.step)


def endpoints(config: Config) -> frozenset[str]:
    """The layers the official code itself names, outputs among them, which every record of it has."""
    return frozenset(layer.key for layer in layers(config) if layer.endpoints)
