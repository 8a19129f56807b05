"""Exported graphs that runtimes read, kept: exporting one takes 8 s, reading it again a few hundredths."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import torch

from ...version import __version__
from ..config import config_to_dict
from ..digests import package_code_digest, weights_digest
from ..model import EfficientDet
from .onnx_export import OPSET, export_onnx


def exported_graph(model: EfficientDet, size: tuple[int, int], folder: Path | None = None) -> bytes:
    """The ONNX graph of `model` for inputs (B, 3, *size), from `folder` where it is known there.

    A file there is named after all that the graph depends on and after its own bytes: one that was changed or cut off
    is made anew. A folder that cannot be written to is done without. Raises EffconvError as `export_onnx` does.
    """
    if folder is not None and (graph := kept_graph(model, size, folder)) is not None:
        return graph
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.onnx"
        export_onnx(model, path, size)
        graph = path.read_bytes()
    if folder is not None:
        with contextlib.suppress(OSError):
            _keep(graph, folder / _name(_digest(model, size), graph))
    return graph


def kept_graph(model: EfficientDet, size: tuple[int, int], folder: Path) -> bytes | None:
    """The graph that `exported_graph` would find in `folder`; None where it would export. Spoilt ones are removed."""
    key = _digest(model, size)
    for path in sorted(folder.glob(f"{key}-*.onnx")):
        with contextlib.suppress(OSError):
            graph = path.read_bytes()
            if path.name == _name(key, graph):
                return graph
            path.unlink()
    return None


def _name(key: str, graph: bytes) -> str:
    return f"{key}-{hashlib.sha256(graph).hexdigest()[:32]}.onnx"


def _keep(graph: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(graph)
        Path(unfinished).replace(path)
    except OSError:
        Path(unfinished).unlink()
        raise


def _digest(model: EfficientDet, size: tuple[int, int]) -> str:
    """Of everything that the graph depends on."""
    versions = (__version__, torch.__version__, OPSET, package_code_digest())
    everything = (versions, size, sorted(config_to_dict(model.config).items()), weights_digest(model))
    return hashlib.sha256(repr(everything).encode()).hexdigest()[:32]
