"""Small checkpoints made on the spot, for the tests of the containers they come in."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from effconv.convert.formats.bundle import shard_suffix, write_bundle
from effconv.convert.layout import Array
from effconv.convert.sources import Checkpoint, open_checkpoint
from effconv.errors import CheckpointError

GOLDEN = Path(__file__).parent.parent / "golden"
SWISH = GOLDEN / "tiny-swish"
DATA = shard_suffix(0, 1)
STATE = b'model_checkpoint_path: "%s"\nall_model_checkpoint_paths: "%s"\n'
EMA = "/ExponentialMovingAverage"


def small_tensors() -> dict[str, Array]:
    return {"a/w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(500, dtype=np.int32)}


def small_files(prefix: str = "model", tensors: dict[str, Array] | None = None) -> dict[str, bytes]:
    """{file name: content} of a checkpoint and its state file."""
    index, arrays = write_bundle(small_tensors() if tensors is None else tensors)
    data = b"".join(array.tobytes() for array in arrays)
    name = prefix.encode()
    return {"checkpoint": STATE % (name, name), f"{prefix}.index": index, f"{prefix}{DATA}": data}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(path: Path, members: dict[str, bytes], *more: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    """An archive of the members in order, then of the headers in `more`, which have no content."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return path


def same(checkpoint: Checkpoint, tensors: dict[str, Array]) -> None:
    checkpoint.verify()
    assert list(checkpoint.variables) == sorted(tensors)
    for name, array in tensors.items():
        assert np.array_equal(checkpoint.read(name), array), name


def refusal(path: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    return str(caught.value)
