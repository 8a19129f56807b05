"""A small trace, recorded: its members, changed, and what reading gives."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.parity.traces.images import noise
from effconv.parity.traces.recording import RecordedTrace, TraceError
from effconv.parity.traces.trace import KINDS, Activation, Kind
from tensors import config_of

LITE = Path(__file__).parent.parent / "golden" / "tiny-lite"
Members = dict[str, bytes]


class Small:
    """Three small layers, the same every time, with the rounding of float32."""

    config = config_of(LITE)
    kinds = KINDS
    exact = True
    required = frozenset({"b"})

    def __init__(self, shape: tuple[int, ...] = (1, 3, 4, 2)):
        self.shape, self.images = shape, noise(1, (4, 6))
        self.source: dict[str, Any] = {"kind": "small", "label": "three layers", "weights": None, "count": 3}

    def activations(self, kind: Kind) -> Iterator[Activation]:
        random = np.random.RandomState(0)
        for key in ("a", "b", "c[3]"):
            double = random.standard_normal(self.shape)
            single = double.astype(np.float32)
            yield Activation(key, single, double if kind == "local" else double + 1e-6)


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: Members, *compressed: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data, zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED)
    return path


def array_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_header(path: Path, **fields: Any) -> Path:
    """The trace with some fields of its header changed; those given as Ellipsis are left out."""
    content = members(path)
    header = {**json.loads(str(np.load(io.BytesIO(content["header.npy"])))), **fields}
    header = {name: value for name, value in header.items() if value is not ...}
    content["header.npy"] = array_bytes(np.array(json.dumps(header)))
    return write(path, content)


def everything(path: Path) -> list[Any]:
    """All that reading a trace gives, as plain values."""
    trace = RecordedTrace(path)
    found: list[Any] = [trace.config, trace.source, trace.kinds, trace.exact, trace.required, trace.images.tobytes()]
    for kind in trace.kinds:
        for each in trace.activations(kind):
            wide = None if each.float64 is None else each.float64.tobytes()
            found.append((each.key, each.float32.tobytes(), wide, each.noise, each.shape, each.step))
    return found


def refusal(path: Path) -> str:
    with pytest.raises(TraceError) as caught:
        everything(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def peak_memory(action: Callable[[], object]) -> int:
    """Bytes that `action` holds at most."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
