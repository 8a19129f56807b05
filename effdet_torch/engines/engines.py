"""What runs a network: PyTorch as it is written, the fast form, compiled, or another runtime on its ONNX graph.

Every engine is called as the model is and returns what it returns but for rounding: `effconv parity --engine`.
"""

import copy
import functools
import threading
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
TORCH_ENGINES = ("eager", "fast", "compile")  # of any device and precision
ENGINES = (*TORCH_ENGINES, "onnxruntime", "openvino")
SHAPES = 4  # of which a runtime keeps compiled networks
DEFAULT_NETWORK_ENGINE = "fast"  # of what evaluates and predicts


def make_engine(
    name: str, model: EfficientDet, size: tuple[int, int], precision: str = "float32", graphs: Path | None = None
) -> "EfficientDet | Called":
    """The engine `name` of a model in eval mode, for inputs (B, 3, *size); the first two take any size.

    In another precision than float32, one of PRECISIONS, weights and arithmetic are of that type, norms having been
    folded before: what callers give and get is of it too.

    "compile" and the runtimes prepare themselves, which takes up to a minute; on CUDA, "compile" replays CUDA graphs.
    The folder `graphs` keeps the runtimes' graphs for the next time. Raises EffconvError when what an engine needs is
    not installed, and for a device or a precision that it does not have; ValueError for a name that is none of ENGINES.
    """
    if name not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, found {name!r}")
    if name in TORCH_ENGINES:
        return _by_torch(name, model, precision)
    if precision != "float32":
        raise EffconvError(
            f"the engine {name} computes in float32 only; use {', '.join(TORCH_ENGINES)} for {precision}"
        )
    device = next(model.parameters()).device.type
    if device != "cpu":
        raise EffconvError(f"the engine {name} computes on the CPU, and the model is on {device}: use fast there")
    session = {"onnxruntime": onnxruntime_function, "openvino": _openvino}[name]
    return Called(model, session(exported_graph(model, size, graphs), model))


def _by_torch(name: str, model: EfficientDet, precision: str) -> "EfficientDet | Called":
    network = model if name == "eager" else fast(model)
    if precision != "float32":  # which the model may not be in, and stays as it is
        network = (copy.deepcopy(model) if name == "eager" else network).to(PRECISIONS[precision])
    # Never frozen: freezing made wrong logits of these models.
    return Called(model, compiled(network), next(network.parameters())) if name == "compile" else network


def compiled(network: nn.Module) -> Any:
    """`network` by torch.compile; on CUDA by CUDA graphs, of whose outputs, which a next call overwrites, copies."""
    if next(network.parameters()).device.type != "cuda":
        return torch.compile(network)
    graphs = torch.compile(network, mode="reduce-overhead", dynamic=False)  # a graph is of one shape

    def run(images: Tensor) -> tuple[list[Tensor], ...]:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return tuple([level.clone() for level in kind] for kind in graphs(images))

    return run


class Called(nn.Module):
    """A function of images in a module's clothes: with the model's config, where `place` is and of its type."""

    def __init__(self, model: EfficientDet, function: Any, place: Tensor | None = None):
        """Without `place` the function is of the CPU, in float32."""
        super().__init__()
        self.config, self.function = model.config, function
        # Of which callers read device and dtype.
        zero = torch.zeros(()) if place is None else torch.zeros((), device=place.device, dtype=place.dtype)
        self.place = nn.Parameter(zero, requires_grad=False)
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
    lock = threading.Lock()  # a request runs once at a time

    @functools.lru_cache(SHAPES)
    def request(shape: tuple[int, ...]) -> Any:
        """Of a fixed shape the runtime plans memory and kernels."""
        fixed = core.read_model(graph, b"")
        fixed.reshape(list(shape))
        return core.compile_model(fixed, "CPU", settings).create_infer_request()

    def run(images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        with lock:
            made = request(tuple(images.shape))
            found = made.infer([np.ascontiguousarray(images.numpy())], share_inputs=True)
            return _split([np.array(found[output]) for output in made.model_outputs], model)

    return run


def _split(arrays: Sequence[Any], model: EfficientDet) -> tuple[list[Tensor], list[Tensor]]:
    levels = len(model.config.levels)
    tensors = [torch.from_numpy(array) for array in arrays]
    return tensors[:levels], tensors[levels:]
