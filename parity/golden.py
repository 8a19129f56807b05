"""Recorded activations of the official code (`.npz`), packed so that a whole model's fit in a repository.

A file holds many named tensors. A small one is whole; of a large one every step-th value of the flattened array is
kept. Steps share no factor with the sizes, so a sample visits every channel.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import EffconvError

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
