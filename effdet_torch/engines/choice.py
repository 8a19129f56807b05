"""Which engine is soonest done with so many images: "fast" starts at once, onnxruntime is quicker but has to export."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import torch

from ..model import EfficientDet
from .engines import DEFAULT_NETWORK_ENGINE
from .graphs import kept_graph

AUTO = "auto"  # asks for the choice; no engine is called so
RUNTIME = "onnxruntime"
EXPORTERS = ("onnx", "onnxscript")
# Of d0 at 512x512, with two other processes on the two processors; on a free machine it takes 8 s. Newer records of
# `bench predict` have it as `seconds_to_begin`, and a test compares.
EXPORT_SECONDS = 14.0
# From as many images on, onnxruntime is ahead although it exports first. results/measured/bench-predict-d0.json has
# 77.1 ms an image of fast and 64.6 ms of onnxruntime, encoded image to boxes, on 2 threads: 12.5 ms are saved, of which
# EXPORT_SECONDS are 1124 images; rounded up. A larger model saves more an image; what can be lost is one export.
BREAK_EVEN_IMAGES = 1200


class Choice(NamedTuple):
    """An engine, one of `engines.ENGINES`, and why it is this one."""

    engine: str
    reason: str


def choose_engine(
    model: EfficientDet, size: tuple[int, int], images: int, graphs: Path, *, device: str, precision: str
) -> Choice:
    """The engine for `images` inputs (3, *size) of `model` on `device`, `graphs` being where exported graphs are kept.

    onnxruntime, where it is installed and computes what is asked for, if its graph is kept or the images are worth an
    export (BREAK_EVEN_IMAGES); otherwise the default.
    """
    if torch.device(device).type != "cpu" or precision != "float32":
        return Choice(DEFAULT_NETWORK_ENGINE, f"as {RUNTIME} computes on the CPU in float32 only")
    if not _installed(RUNTIME):
        return Choice(DEFAULT_NETWORK_ENGINE, f"as {RUNTIME} is not installed")
    if kept_graph(model, size, graphs) is not None:
        return Choice(RUNTIME, "whose graph is kept")
    if not all(map(_installed, EXPORTERS)):
        return Choice(DEFAULT_NETWORK_ENGINE, f"as {' and '.join(EXPORTERS)}, which export, are not installed")
    if images < BREAK_EVEN_IMAGES:
        return Choice(
            DEFAULT_NETWORK_ENGINE, f"as exporting for {RUNTIME} pays from {BREAK_EVEN_IMAGES} images on, not {images}"
        )
    return Choice(RUNTIME, f"as exporting for it pays from {BREAK_EVEN_IMAGES} images on, and there are {images}")


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
