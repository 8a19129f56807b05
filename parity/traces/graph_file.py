"""A TensorFlow graph from a file, taken apart: frozen `.pb` files and SavedModel folders, as plain nodes.

The file is not trusted. Nothing of it reaches TensorFlow but a part that `subgraph` was asked for, and only if every
operation of that part is among OPERATIONS. Variables are read by effconv's own reader, which verifies checksums.

Formats: TensorFlow `core/framework/graph.proto`, `core/framework/function.proto`, `core/protobuf/saved_model.proto`.
"""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...convert.formats.wire import WireError, read_fields
from ...convert.layout import Array
from ...convert.sources import Checkpoint, open_checkpoint
from ...errors import EffconvError
from ..reference.network import import_tensorflow

# What an EfficientDet consists of at inference. None of it touches files or runs code.
OPERATIONS = frozenset(
    """
    Add AddN AddV2 BiasAdd Cast ConcatV2 Const Conv2D DepthwiseConv2dNative Div ExpandDims FloorDiv FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 Identity IdentityN MaxPool Maximum Mean Minimum Mul Neg Pack Pad RealDiv Relu
    Relu6 Reshape ResizeNearestNeighbor Rsqrt Shape Sigmoid Square Squeeze StopGradient StridedSlice Sub Sum Transpose
    """.split()  # noqa: SIM905 (a word list, forty lines shorter)
)
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
VARIABLES = ("VarHandleOp", "Variable", "VariableV2")
FLOAT32 = 1  # DataType of tensorflow/core/framework/types.proto
IMAGES = "effconv_normalised_images"

# Far above any EfficientDet, and low enough that a hostile file cannot fill the memory.
MAX_FILE = 1 << 31
MAX_NODES = 400_000
MAX_DEPTH = 16  # of functions that call functions
MAX_STEPS = 1000  # from a tensor back to the one it stands for
MAX_ELEMENTS = 1 << 30  # of a tensor


class Node(NamedTuple):
    """One operation: its type, its attributes as a protocol buffer's map, and the tensors it takes, "node:output"."""

    operation: str
    attributes: Any
    inputs: list[str]


class GraphFile:
    """The `nodes` of a graph by name; a function's are "call/node", once per call.

    Raises EffconvError for a file that is missing, damaged or out of all proportion, and without TensorFlow.
    """

    def __init__(self, path: Path):
        folder = path.parent if path.name == "saved_model.pb" else path
        self.is_saved_model = folder.is_dir()
        self.path = folder / "saved_model.pb" if self.is_saved_model else path
        self.nodes: dict[str, Node] = {}
        self._stands_for: dict[str, str] = {}  # a function's argument, or a call's output: the tensor it is
        self._objects: Any = ()
        self._variables: tuple[Checkpoint, dict[str, str]] | None = None
        version_one = import_tensorflow().compat.v1
        try:
            if self.path.stat().st_size > MAX_FILE:
                raise EffconvError(f"{self.path}: larger than {MAX_FILE} bytes, which no graph can be")
            data = self.path.read_bytes()
        except OSError as error:
            raise EffconvError(
                f"{self.path}: cannot be read ({error.strerror}); expected a frozen graph (.pb) or a SavedModel folder"
            ) from error
        self.sha256 = hashlib.sha256(data).hexdigest()
        if self.is_saved_model:
            meta = self._parse(version_one.MetaGraphDef(), self._first_graph(data))
            self._objects = meta.object_graph_def.nodes
            self._flatten(meta.graph_def)
        else:
            self._flatten(self._parse(version_one.GraphDef(), data))

    def resolve(self, tensor: str) -> str:
        """The tensor that a function's argument or a call's output stands for; any other tensor itself."""
        for _ in range(MAX_STEPS):
            if tensor not in self._stands_for:
                return tensor
            tensor = self._stands_for[tensor]
        raise EffconvError(f"{self.path}: functions give {tensor} to each other in a circle; the file is damaged")

    def origin(self, tensor: str) -> str:
        """The name of the node that computes a tensor, before any Identity operations."""
        for _ in range(MAX_STEPS):
            name = self.resolve(tensor).rpartition(":")[0]
            node = self._node(name)
            if node.operation != "Identity" or not node.inputs:
                return name
            tensor = node.inputs[0]
        raise EffconvError(f"{self.path}: {tensor} is computed from itself; the file is damaged")

    def constant(self, tensor: str, shape: list[int]) -> Array | None:
        """The value of a tensor; None if it is no constant or of another shape."""
        node = self._node(self.origin(tensor))
        value = node.attributes["value"].tensor
        if node.operation != "Const" or [dimension.size for dimension in value.tensor_shape.dim] != shape:
            return None
        try:
            return np.asarray(import_tensorflow().make_ndarray(value))
        except (TypeError, ValueError) as error:
            raise EffconvError(f"{self.path}: a constant cannot be read ({error}); the file is damaged") from error

    def subgraph(self, tensors: Iterable[str], images: str, shape: tuple[int, ...]) -> Any:
        """The GraphDef that computes `tensors` from IMAGES, a placeholder of `shape` in place of the tensor `images`.

        Variables are constants in it. Raises EffconvError for an operation that is not among OPERATIONS and for a
        variable whose value is missing or damaged.
        """
        tensorflow = import_tensorflow()
        definition = tensorflow.compat.v1.GraphDef()
        placeholder = definition.node.add(name=IMAGES, op="Placeholder")
        placeholder.attr["dtype"].type = FLOAT32
        placeholder.attr["shape"].shape.CopyFrom(tensorflow.TensorShape(shape).as_proto())
        pending, taken = list(tensors), {IMAGES}
        while pending:
            name = pending.pop().rpartition(":")[0]
            if name in taken:
                continue
            taken.add(name)
            node = self._node(name)
            value = self._value(name, node)
            if value is not None:
                constant = definition.node.add(name=name, op="Const")
                constant.attr["value"].tensor.CopyFrom(tensorflow.make_tensor_proto(value))
                constant.attr["dtype"].type = constant.attr["value"].tensor.dtype
                continue
            self._check(name, node)
            inputs = [self.resolve(tensor) for tensor in node.inputs]
            inputs = [f"{IMAGES}:0" if tensor == images else tensor for tensor in inputs]
            copy = definition.node.add(name=name, op=node.operation, input=inputs)
            for key, attribute in node.attributes.items():
                if not key.startswith("_"):  # those are hints, some about nodes that are left out
                    copy.attr[key].CopyFrom(attribute)
            pending += inputs
        return definition

    def _first_graph(self, data: bytes) -> bytes:
        # A SavedModel may hold several graphs, for training too; the official exports hold one.
        try:
            return next(value for number, value in read_fields(data) if number == 2 and isinstance(value, bytes))
        except WireError as error:
            raise EffconvError(f"{self.path}: not a SavedModel, or damaged ({error})") from error
        except StopIteration:
            raise EffconvError(f"{self.path}: not a SavedModel: no graph in it") from None

    def _parse(self, message: Any, data: bytes) -> Any:
        from google.protobuf.message import DecodeError  # comes with TensorFlow

        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise EffconvError(f"{self.path}: not a TensorFlow graph, or damaged ({error})") from error
        return message

    def _flatten(self, graph: Any) -> None:
        functions = {function.signature.name: function for function in graph.library.function}
        scopes = [("", graph.node, 0)]
        for prefix, definitions, depth in scopes:
            if depth > MAX_DEPTH or len(self.nodes) + len(definitions) > MAX_NODES:
                raise EffconvError(f"{self.path}: more functions within functions than a model has")
            for definition in definitions:
                if not "".join((definition.name, definition.op, *definition.input)).isprintable():
                    raise EffconvError(f"{self.path}: an operation's name is not text; the file is damaged")
                name = prefix + definition.name
                inputs = [prefix + _tensor(text) for text in definition.input if not text.startswith("^")]
                self.nodes[name] = Node(definition.op, definition.attr, inputs)
                called = functions.get(definition.attr["f"].func.name) if definition.op in CALLS else None
                if called:
                    for number, argument in enumerate(called.signature.input_arg[: len(inputs)]):
                        self._stands_for[f"{name}/{argument.name}:0"] = inputs[number]
                    for number, output in enumerate(called.signature.output_arg):
                        self._stands_for[f"{name}:{number}"] = f"{name}/{_tensor(called.ret[output.name])}"
                    scopes.append((f"{name}/", called.node_def, depth + 1))

    def _node(self, name: str) -> Node:
        if name not in self.nodes:
            raise EffconvError(f"{self.path}: operation {name} is used but missing; the file is cut off or damaged")
        return self.nodes[name]

    def _check(self, name: str, node: Node) -> None:
        if node.operation not in OPERATIONS:
            raise EffconvError(
                f"{self.path}: a layer depends on {name}, which is of type {node.operation}; refused, because only the "
                f"operations of an EfficientDet are known to be harmless"
            )
        if node.operation == "Const":
            sizes = [dimension.size for dimension in node.attributes["value"].tensor.tensor_shape.dim]
            if math.prod(sizes) > MAX_ELEMENTS:  # a few bytes can stand for any number of equal values
                raise EffconvError(f"{self.path}: constant {name} has shape {sizes}, too large for an EfficientDet")

    def _value(self, name: str, node: Node) -> Array | None:
        """What a variable, or an operation that reads one, gives; None for other operations."""
        if node.operation == "ReadVariableOp" and node.inputs:
            name = self.origin(node.inputs[0])
            node = self._node(name)
        if node.operation not in VARIABLES:
            return None
        variable = node.attributes["shared_name"].s.decode("utf-8", "replace") or name
        if not self.is_saved_model:
            raise EffconvError(
                f"{self.path}: variable {variable!r} has no value in the file; freeze the graph, or give the "
                f"SavedModel's folder"
            )
        checkpoint, keys = self._variables = self._variables or self._open_variables()
        key = keys.get(variable, variable)
        if key not in checkpoint.variables:
            raise EffconvError(f"{self.path}: variable {variable!r} is not in {checkpoint.path}")
        return checkpoint.read(key)

    def _open_variables(self) -> tuple[Checkpoint, dict[str, str]]:
        """(the SavedModel's values, {variable: key there} where they are kept by the paths of Python objects)."""
        checkpoint = open_checkpoint(self.path.parent / "variables" / "variables")
        checkpoint.verify()
        paths, keys = {0: ""}, {}
        reached = [0] if self._objects else []  # in the order TensorFlow visits them, which decides an object's path
        for place in reached:
            item = self._objects[place]
            if item.WhichOneof("kind") == "variable":
                keys[item.variable.name] = f"{paths[place]}.ATTRIBUTES/VARIABLE_VALUE"
            for child in item.children:
                if child.node_id not in paths and 0 <= child.node_id < len(self._objects):
                    # Escaped as in TensorFlow's python/checkpoint/trackable_view.py.
                    paths[child.node_id] = f"{paths[place]}{child.local_name.replace('.', '..').replace('/', '.S')}/"
                    reached.append(child.node_id)
        return checkpoint, keys


def _tensor(text: str) -> str:
    # "node" and "node:1" in a graph; "argument" and "node:name of the output:1" in a function, where every operation
    # used here has one name of outputs, but for batch norm, whose others are of no use at inference.
    parts = text.split(":")
    return f"{parts[0]}:{parts[-1] if len(parts) > 1 else 0}"
