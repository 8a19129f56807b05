"""What runs a network: PyTorch as it is written, the fast form, compiled, or another runtime on its ONNX graph.

Every engine is called as the model is and returns what it returns but for rounding: `effconv parity --engine`.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import EffconvError
from ..model import EfficientDet
from .fast import fast
from .graphs import exported_graph
from .onnx_export import INPUT

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ENGINES = ("eager", "fast", "compile", "onnxruntime", "openvino")
DEFAULT_NETWORK_ENGINE = "fast"  # of what evaluates and predicts


def make_engine(
    name: str, model: EfficientDet, size: tuple[int, int], precision: str = "float32", graphs: Path | None = None
) -> "EfficientDet | Called":
    """The engine `name` of a model in eval mode, for inputs (B, 3, *size); the first two take any size.

    In another precision than float32, one of PRECISIONS, weights and arithmetic are of that type, norms having been
    folded before: what callers give and get is of it too.

    "compile" and the runtimes prepare themselves, which takes up to a minute; the folder `graphs` keeps the runtimes'
    graphs for the next time. Raises EffconvError when what an engine needs
    is not installed, and ValueError for a name that is none of ENGINES.
    """
    if precision != "float32":
        if name not in ("eager", "fast"):
            raise EffconvError(f"the engine {name} computes in float32 only; use eager or fast for {precision}")
        chosen = copy.deepcopy(model) if name == "eager" else fast(model)
        return chosen.to(PRECISIONS[precision])
    if name == "eager":
        return model
    if name == "fast":
        return fast(model)
    if name == "compile":
        # Never frozen: freezing made wrong logits of these models.
        return Called(model, torch.compile(fast(model)))
    if name not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, found {name!r}")
    device = next(model.parameters()).device.type
    if device != "cpu":
        raise EffconvError(f"the engine {name} computes on the CPU, and the model is on {device}: use fast there")
    session = {"onnxruntime": onnxruntime_function, "openvino": _openvino}[name]
    return Called(model, session(exported_graph(model, size, graphs), model))


class Called(nn.Module):
    """A function of images in a module's clothes: with the model's config, on the CPU in float32."""

    def __init__(self, model: EfficientDet, function: Any):
        super().__init__()
        self.config, self.function = model.config, function
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)  # of which callers read device and dtype
        self.eval()

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        logits, codes = self.function(images)
        return list(logits), list(codes)


def onnxruntime_function(graph: bytes, model: EfficientDet) -> Any:
    """A graph with the outputs of `model`, run by onnxruntime on the CPU. Raises EffconvError without it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EffconvError(
            "the engine onnxruntime is not installed: pip install onnx onnxscript onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return _split(session.run(None, {INPUT: np.ascontiguousarray(images.numpy())}), model)

    return run


def _openvino(graph: bytes, model: EfficientDet) -> Any:
    try:
        import openvino
    except ImportError as error:
        raise EffconvError("the engine openvino is not installed: pip install openvino onnx onnxscript") from error
    core = openvino.Core()
    # It would compute in bfloat16 where the processor can.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    requests: dict[tuple[int, ...], Any] = {}  # by shape: of a fixed one the runtime plans memory and kernels

    def run(images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        shape = tuple(images.shape)
        if shape not in requests:
            fixed = core.read_model(graph, b"")
            fixed.reshape(list(shape))
            requests[shape] = core.compile_model(fixed, "CPU", settings).create_infer_request()
        found = requests[shape].infer([np.ascontiguousarray(images.numpy())], share_inputs=True)
        return _split([np.array(found[output]) for output in requests[shape].model_outputs], model)

    return run


def _split(arrays: Sequence[Any], model: EfficientDet) -> tuple[list[Tensor], list[Tensor]]:
    levels = len(model.config.levels)
    tensors = [torch.from_numpy(array) for array in arrays]
    return tensors[:levels], tensors[levels:]
