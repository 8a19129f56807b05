"""ONNX graphs (`.onnx`), looked at without running them; the onnx package reads the container."""

from pathlib import Path
from typing import Any, NamedTuple

from ...errors import CheckpointError

PRODUCER = "effconv"  # of the graphs that effconv exports, which are named after their model


class Graph(NamedTuple):
    """What an ONNX file holds, without the values of its tensors."""

    producer: str
    opset: int
    nodes: int
    inputs: list[str]  # each with its shape, such as "images (batch, 3, 512, 512)"
    outputs: list[str]
    tensors: list[tuple[str, str, tuple[int, ...]]]  # name, type, shape
    model: str | None  # known of graphs that effconv exported


def read_graph(path: Path) -> Graph:
    """The graph at `path`; data in other files is not read. Raises CheckpointError, also without onnx."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise CheckpointError(f"{path}: an ONNX graph needs {error.name}: pip install onnx") from error
    try:
        content = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).strip().split("\n", 1)[0]
        raise CheckpointError(f"{path}: not a readable ONNX graph ({reason})") from error
    if not content.graph.node:
        raise CheckpointError(f"{path}: not an ONNX graph: it has no node")
    constants = content.graph.initializer
    types = onnx.TensorProto.DataType
    names = {each.name for each in constants}
    return Graph(
        producer=f"{content.producer_name} {content.producer_version}".strip() or "unknown",
        opset=max((each.version for each in content.opset_import if each.domain in ("", "ai.onnx")), default=0),
        nodes=len(content.graph.node),
        inputs=[_shaped(each) for each in content.graph.input if each.name not in names],
        outputs=[_shaped(each) for each in content.graph.output],
        tensors=[
            (each.name, _type_name(types, each.data_type), tuple(int(side) for side in each.dims)) for each in constants
        ],
        model=content.graph.name if content.producer_name == PRODUCER else None,
    )


def _shaped(value: Any) -> str:
    sides = (axis.dim_param or str(axis.dim_value) for axis in value.type.tensor_type.shape.dim)
    return f"{value.name} ({', '.join(sides)})"


def _type_name(types: Any, number: int) -> str:
    return str(types.Name(number)).lower() if number in types.values() else f"type {number}"
