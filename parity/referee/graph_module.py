"""An ONNX graph as a PyTorch module: a module for every node, which onnxruntime runs by itself.

So every inner value can be looked at, and replaced, as with any other network (`taps.py`). No optimisation joins nodes:
what is compared is what the graph says, by the kernels of the runtime that will run it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...effdet_torch.config import Config
from ...effdet_torch.engines.onnx_detector import pixel_constants
from ...errors import EffconvError

FLOAT, PIXELS = 1, 2  # onnx.TensorProto.FLOAT and UINT8
CHANNELS = 3
Values = dict[str, NDArray[Any]]


class Input(NamedTuple):
    """The images that a graph takes; an axis is None where any length will do."""

    name: str
    batch: int | None
    size: tuple[int, int] | None  # height, width
    channels_last: bool  # (B, H, W, 3)
    pixels: bool  # uint8, which the graph normalises itself


class GraphNode(nn.Module):
    """One node: its inputs in, its first output out; further outputs are kept in `others`."""

    def __init__(self, node: Any, graph: Any, constants: Values):
        super().__init__()
        self.operation, self.domain = node.op_type, node.domain
        self.inputs, self.outputs = list(node.input), list(node.output)
        self.weights = {place: constants[name] for place, name in enumerate(self.inputs) if name in constants}
        self.others: Values = {}
        self._node, self._graph, self._constants = node, graph, constants
        self._session: Any = None
        self._shapes: list[tuple[int, ...]] = []  # that the session takes

    def forward(self, *given: Tensor) -> Tensor:
        """The node's first output, of the inputs that no constant gives, in their order."""
        import onnxruntime

        names = self.wanted()
        arrays = {name: value.contiguous().numpy() for name, value in zip(names, given, strict=True)}
        # How many rows suppression keeps may be another number in the next run.
        shapes = [each.shape for each in arrays.values()]
        if self._session is None or shapes != self._shapes:
            self._shapes = shapes
            self._session = onnxruntime.InferenceSession(
                self._model(arrays), _options(), providers=["CPUExecutionProvider"]
            )
        found = self._session.run(None, arrays)
        kept = [name for name in self.outputs if name]
        self.others = dict(zip(kept[1:], found[1:], strict=True))
        return torch.from_numpy(np.asarray(found[0]))

    @property
    def kernel(self) -> NDArray[Any] | None:
        """What it multiplies by, (outputs, inputs, ...) as PyTorch has it; None where that is nothing fixed."""
        if self.operation not in ("Conv", "Gemm", "MatMul") or 1 not in self.weights:
            return None
        turned = any(each.name == "transB" and each.i for each in self._node.attribute)
        return self.weights[1] if self.operation == "Conv" or turned else self.weights[1].T

    def wanted(self) -> list[str]:
        """Names of the inputs that are computed by other nodes, each once."""
        return list(dict.fromkeys(name for name in self.inputs if name and name not in self._constants))

    def _model(self, arrays: Values) -> bytes:
        from onnx import ValueInfoProto, helper, numpy_helper

        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in arrays.items()
        ]
        stored = dict.fromkeys(name for name in self.inputs if name in self._constants)
        graph = helper.make_graph(
            [self._node],
            "node",
            inputs,
            [ValueInfoProto(name=name) for name in self.outputs if name],
            [numpy_helper.from_array(self._constants[name], name) for name in stored],
        )
        model = helper.make_model(graph, opset_imports=self._graph.opset_import, ir_version=self._graph.ir_version)
        return bytes(model.SerializeToString())


class GraphModule(nn.Module):
    """A graph of one input of images; every node that images lead to is a submodule. `config` says how to normalise.

    Submodules are named after the nodes' first outputs. Nodes that have graphs of their own (loops) are left out, and
    all that needs them. Raises EffconvError for a file that is no such graph.
    """

    def __init__(self, path: Path, config: Config):
        super().__init__()
        graph = _read(path)
        self.mean, self.std = (each.reshape(CHANNELS, 1, 1) for each in pixel_constants(config))
        self.input = _input(path, graph)
        self.texts = {each.key: each.value for each in graph.metadata_props}  # what the file says of itself
        self.results = [each.name for each in graph.graph.output]
        self.paths: dict[str, str] = {}  # a tensor's name -> its submodule
        self._order = self._build(graph)
        self.eval()

    def _build(self, graph: Any) -> list[GraphNode]:
        from onnx import numpy_helper

        constants: Values = {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}
        known = {self.input.name, *constants}
        order = []
        for node in graph.graph.node:
            looped = any(each.HasField("g") or len(each.graphs) for each in node.attribute)
            if looped or not {name for name in node.input if name} <= known or not node.output or not node.output[0]:
                continue
            module = GraphNode(node, graph, constants)
            known.update(name for name in node.output if name)
            if not module.wanted():  # of constants alone: so is what it gives
                constants[node.output[0]] = module().numpy()
                constants.update(module.others)
                continue
            self.paths[node.output[0]] = self._place(node.output[0], module)
            order.append(module)
        return order

    def _place(self, name: str, module: nn.Module) -> str:
        """Add a submodule under a tensor's name, whose dots are levels; the path it got."""
        *above, last = [part or "_" for part in name.split(".")]
        parent: nn.Module = self
        for part in above:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        while last in parent._modules or hasattr(parent, last):
            last += "_"
        parent.add_module(last, module)
        return ".".join([*above, last])

    def nodes(self) -> Iterator[tuple[str, GraphNode]]:
        """(path of the submodule, node) in the order of computation."""
        return ((self.paths[node.outputs[0]], node) for node in self._order)

    def as_taken(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) as the graph can take them: where it takes pixels, those of whole numbers."""
        return (self._pixels(images) - self.mean) / self.std if self.input.pixels else images

    def _pixels(self, images: Tensor) -> Tensor:
        return (images * self.std + self.mean).round().clamp(0, 255)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The graph's results that could be computed, by name, of `images` (B, 3, H, W), normalised."""
        given = images.detach().cpu().float()
        if self.input.pixels:
            given = self._pixels(given).to(torch.uint8)
        values = {self.input.name: (given.permute(0, 2, 3, 1) if self.input.channels_last else given).contiguous()}
        last = {name: place for place, node in enumerate(self._order) for name in node.wanted()}
        for place, node in enumerate(self._order):
            values[node.outputs[0]] = node(*(values[name] for name in node.wanted()))
            values.update({name: torch.from_numpy(np.asarray(value)) for name, value in node.others.items()})
            node.others = {}
            for name in node.wanted():  # what no later node reads is let go
                if last[name] == place and name not in self.results:
                    values.pop(name, None)
        return {name: values[name] for name in self.results if name in values}


def _options() -> Any:
    """Of a session of one node: as it is, in this thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _read(path: Path) -> Any:
    """The graph, with its functions written out."""
    try:
        import onnx
        import onnx.inliner
        import onnxruntime  # noqa: F401  # which runs its nodes
    except ImportError as error:
        raise EffconvError(
            f"{path}: reading a graph needs {error.name}, which is not installed: pip install onnx onnxruntime"
        ) from error
    if not path.is_file():
        raise EffconvError(f"{path}: no such file")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:  # protobuf's, onnx's and the operating system's own have no common base
        line = (str(error).splitlines() or [""])[0]
        raise EffconvError(f"{path}: not a readable ONNX graph ({type(error).__name__}: {line})") from error


def _input(path: Path, graph: Any) -> Input:
    """The one input that no constant gives."""
    stored = {each.name for each in graph.graph.initializer}
    inputs = [each for each in graph.graph.input if each.name not in stored]
    found = ", ".join(each.name for each in inputs) or "none"
    if len(inputs) != 1:
        raise EffconvError(f"{path}: expected one input, images; found {found}")
    kind = inputs[0].type.tensor_type
    axes = [axis.dim_value or None for axis in kind.shape.dim]
    if kind.elem_type not in (FLOAT, PIXELS) or len(axes) != 4 or CHANNELS not in (axes[1], axes[3]):
        raise EffconvError(
            f"{path}: expected float32 or uint8 images of (B, 3, H, W) or (B, H, W, 3), found {found} of {axes}"
        )
    channels_last = axes[1] != CHANNELS
    height, width = axes[1:3] if channels_last else axes[2:4]
    return Input(
        inputs[0].name, axes[0], (height, width) if height and width else None, channels_last, kind.elem_type == PIXELS
    )
