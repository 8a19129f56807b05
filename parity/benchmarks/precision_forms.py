"""The forms of a network whose precision is measured: engines of PyTorch, other runtimes on float32, and int8 files."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...effdet_torch.engines.engines import PRECISIONS, make_engine, onnxruntime_function
from ...effdet_torch.engines.graphs import exported_graph
from ...effdet_torch.model import EfficientDet
from ..exporting.onnx_int8 import quantized_graph
from ..exporting.tflite import official_variables_of
from ..reference.tflite import TFLiteDetector, tflite_runner

Outputs = tuple[list[Tensor], list[Tensor]]  # class logits and box codes by level, as the model returns them
PER_TENSOR, PER_CHANNEL = "per tensor", "per channel"


class Form(NamedTuple):
    """What computes a network, and how."""

    engine: str  # of `engines.ENGINES`, or "tflite"
    precision: str
    scales: str | None = None  # of int8 kernels


FLOAT32 = Form("eager", "float32")  # beside which the others are measured
FORMS = (
    FLOAT32,
    *(Form(engine, "float32") for engine in ("fast", "compile", "onnxruntime", "openvino", "tflite")),
    *(Form(engine, precision) for precision in ("bfloat16", "float16") for engine in ("eager", "fast")),
    Form("tflite", "float16"),
    *(Form(engine, "int8", scales) for engine in ("onnxruntime", "tflite") for scales in (PER_TENSOR, PER_CHANNEL)),
)


class Made(NamedTuple):
    """A form, ready to run."""

    run: Callable[[Tensor], Outputs]  # of (1, 3, H, W) float32, to float32
    file_bytes: int | None  # of the file that the runtime reads; None where there is none


def why_left_out(form: Form) -> str | None:
    """Why this machine cannot run a form; None where it can."""
    compilers = os.environ.get("CXX", "c++"), "g++", "clang++"
    if form.engine == "compile" and not any(map(shutil.which, compilers)):
        return "there is no C++ compiler"
    return None


def make_form(
    form: Form, model: EfficientDet, calibration: Sequence[NDArray[np.float32]], graphs: Path | None = None
) -> Made:
    """A form of `model` for its own input size, on as many threads as PyTorch has (TFLite: one).

    int8 takes ranges from `calibration`, inputs (3, H, W). The folder `graphs` keeps ONNX graphs for the next form.
    Raises EffconvError when what the form needs is not installed.
    """
    size = model.config.image_size
    if form.engine == "tflite":
        return _tflite(form, model, calibration)
    if form.precision == "int8":
        exact = exported_graph(model, size, graphs)
        graph = quantized_graph(exact, calibration, per_channel=form.scales == PER_CHANNEL)
        return Made(onnxruntime_function(graph, model), len(graph))
    network, kind = make_engine(form.engine, model, size, form.precision, graphs), PRECISIONS[form.precision]

    def run(image: Tensor) -> Outputs:
        with torch.inference_mode():
            logits, codes = network(image.to(kind))
        return [each.float() for each in logits], [each.float() for each in codes]

    runtime = form.engine in ("onnxruntime", "openvino")
    return Made(run, len(exported_graph(model, size, graphs)) if runtime else None)


def _tflite(form: Form, model: EfficientDet, calibration: Sequence[NDArray[np.float32]]) -> Made:
    images = [np.ascontiguousarray(each.transpose(1, 2, 0)) for each in calibration]
    detector = TFLiteDetector(model.config, official_variables_of(model), None)
    content = detector.convert(form.precision, images, per_channel=form.scales != PER_TENSOR)
    function, levels = tflite_runner(content), model.config.levels

    def run(image: Tensor) -> Outputs:
        found = function(np.ascontiguousarray(image[0].numpy().transpose(1, 2, 0)))
        logits, codes = (
            [torch.from_numpy(found[f"{kind}_{level}"]).permute(0, 3, 1, 2).contiguous() for level in levels]
            for kind in ("class_logits", "box_codes")
        )
        return logits, codes

    return Made(run, len(content))
