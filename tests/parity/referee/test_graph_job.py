"""An ONNX file of a stranger's network beside the official one: inner values, planted faults, and what is no graph."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from onnx import ModelProto, TensorProto, helper, numpy_helper
from strange_port import with_weights_of

import effconv
from effconv.cli import main
from effconv.effdet_torch.engines.onnx_detector import Detecting, export_detector, pixel_constants
from effconv.effdet_torch.engines.onnx_export import exported, output_names
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.parity.referee.graph_job import compare_graph
from effconv.parity.referee.graph_module import GraphModule
from effconv.parity.referee.referee import ModuleComparison, Shown, compare
from effconv.parity.traces.images import noise
from tiny_models import load_tiny

SWISH = Path(__file__).parent.parent.parent / "golden" / "tiny-swish"
SIZE = (128, 160)
Edit = Callable[[ModelProto], None]


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    return load_tiny(SWISH)


@pytest.fixture(scope="module")
def graph(model: EfficientDet) -> bytes:
    """The exporter has folded most norms into kernels, and no name of it is ours."""
    port = with_weights_of(model).eval()
    return exported(port, torch.zeros(2, 3, *SIZE), output_names(model)).SerializeToString()  # type: ignore[no-any-return]


def edited(graph: bytes, path: Path, *edits: Edit) -> Path:
    copy = ModelProto.FromString(graph)
    for edit in edits:
        edit(copy)
    path.write_bytes(copy.SerializeToString())
    return path


def compared(path: Path, model: EfficientDet, names: dict[str, str] | None = None) -> ModuleComparison:
    module = GraphModule(path, model.config)
    images = torch.from_numpy(noise(0, module.input.size or SIZE)).repeat(module.input.batch or 1, 1, 1, 1)
    shown = Shown(path.name, "noise", "a test")
    return compare_graph(module, model, module.as_taken(images), names or {}, shown)


def run(*options: object) -> Result:
    subject = ("--model", str(SWISH / "config.json"), "--ckpt", str(SWISH))
    return CliRunner().invoke(main, ["parity", *subject, "--engine", *map(str, options)])


def test_a_right_graph_holds(model: EfficientDet, graph: bytes, tmp_path: Path) -> None:
    path = edited(graph, tmp_path / "mine.onnx")
    result = run(path, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["ok"]
    assert {name for row in found["rows"] for name in row["checks"]} == {"float32 local", "float32 accumulated"}
    paired = [each["layer"] for each in found["pairing"]]
    assert {f"{kind}_head.predict[{level}]" for kind in ("class", "box") for level in model.config.levels} < set(paired)
    assert len(paired) == len(set(paired)) >= 240
    # What is not there are convolutions whose norm was folded into them.
    table = [row["layer"] for row in compared(path, model).record["rows"]]
    assert table == paired
    assert all("conv" in key or key.split(".")[-1] in ("expand", "depthwise", "project") for key in found["unpaired"])
    assert f"{len(paired)} layers were found in it: " in run(path).output
    # Converted weights know their model.
    effconv.save(model, tmp_path / "mine.safetensors")
    result = CliRunner().invoke(main, ["parity", "--engine", str(path), "--ckpt", str(tmp_path / "mine.safetensors")])
    assert result.exit_code == 0, result.output


def symmetric_padding(graph: ModelProto) -> None:
    for node in graph.graph.node:
        attributes = {each.name: each for each in node.attribute}
        if node.op_type == "Conv" and list(attributes["strides"].ints) == [2, 2]:
            side = attributes["kernel_shape"].ints[0] // 2
            attributes["pads"].ints[:] = [side] * 4


def zeros_around_pools(graph: ModelProto) -> None:
    for node in graph.graph.node:
        if node.op_type == "Pad":
            value = next(each for each in graph.graph.initializer if each.name == node.input[2])
            value.CopyFrom(numpy_helper.from_array(np.zeros((), np.float32), value.name))


def changed_tensor(graph: ModelProto, name: str, change: Callable[[np.ndarray[Any, Any]], None]) -> None:
    tensor = next(each for each in graph.graph.initializer if each.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def x_before_y(graph: ModelProto) -> None:
    def swap(values: np.ndarray[Any, Any]) -> None:
        values[:] = values.reshape(-1, 4, *values.shape[1:])[:, [1, 0, 3, 2]].reshape(values.shape)

    for part in ("weight", "bias"):
        changed_tensor(graph, f"answers.1.last.1.{part}", swap)


def one_value(graph: ModelProto) -> None:
    def more(values: np.ndarray[Any, Any]) -> None:
        values.flat[values.size // 2] += 0.01 * np.abs(values).max()

    changed_tensor(graph, convolution(graph, 12), more)


def convolution(graph: ModelProto, number: int) -> str:
    """The kernel of a convolution, in the order of computation."""
    return str([node.input[1] for node in graph.graph.node if node.op_type == "Conv"][number])


def another_activation(graph: ModelProto) -> None:
    next(node for node in graph.graph.node if node.op_type == "Sigmoid").op_type = "HardSigmoid"


@pytest.mark.parametrize(
    ("edit", "layer", "mistake"),
    [
        (symmetric_padding, "backbone.stem.norm", "no-same-conv"),
        (zeros_around_pools, "bifpn.extra_levels.6", "zero-padded-maxpool"),
        (x_before_y, "box_head.predict[3]", "xyxy-box-codes"),
        # A kernel that is not ours any more is found by its values.
        (one_value, "backbone.blocks.4.depthwise_norm", None),
        (another_activation, "backbone.blocks.0.depthwise_norm", None),
    ],
)
def test_a_fault_is_found_where_it_is(
    edit: Edit, layer: str, mistake: str | None, model: EfficientDet, graph: bytes, tmp_path: Path
) -> None:
    found = compared(edited(graph, tmp_path / "mine.onnx", edit), model)
    assert not found.ok
    assert found.first_fault == layer
    assert [each.change for each in found.explanations] == ([mistake] if mistake else [])


def in_front(graph: ModelProto, nodes: list[Any], kind: int, shape: list[Any]) -> None:
    """`nodes` from a new input "given" to what was the input."""
    old = graph.graph.input[0].name
    nodes[-1].output[0] = old
    kept = list(graph.graph.node)
    del graph.graph.node[:], graph.graph.input[:]
    graph.graph.node.extend([*nodes, *kept])
    graph.graph.input.append(helper.make_tensor_value_info("given", kind, shape))


def takes_pixels(model: EfficientDet) -> Edit:
    mean, std = (each.numpy() for each in pixel_constants(model.config))

    def edit(graph: ModelProto) -> None:
        graph.graph.initializer.extend(
            [numpy_helper.from_array(mean, "pixel_mean"), numpy_helper.from_array(std, "pixel_std")]
        )
        nodes = [
            helper.make_node("Cast", ["given"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["float", "pixel_mean"], ["centred"]),
            helper.make_node("Div", ["centred", "pixel_std"], ["scaled"]),
            helper.make_node("Transpose", ["scaled"], [""], perm=[0, 3, 1, 2]),
        ]
        in_front(graph, nodes, TensorProto.UINT8, ["batch", *SIZE, 3])

    return edit


def channels_last(graph: ModelProto) -> None:
    nodes = [helper.make_node("Transpose", ["given"], [""], perm=[0, 3, 1, 2])]
    in_front(graph, nodes, TensorProto.FLOAT, [2, *SIZE, 3])


def test_other_inputs_are_given_what_they_take(model: EfficientDet, graph: bytes, tmp_path: Path) -> None:
    pixels = compared(edited(graph, tmp_path / "pixels.onnx", takes_pixels(model)), model)
    assert pixels.ok, pixels.verdict
    last = edited(graph, tmp_path / "last.onnx", channels_last)
    assert GraphModule(last, model.config).input.batch == 2
    assert (found := compared(last, model)).ok, found.verdict
    assert found.rows[0].shape[0] == 2


def test_a_detector_of_levels_of_one_pixel_holds(model: EfficientDet, tmp_path: Path) -> None:
    """There, what transposes a head's output for suppression has the very values of the output."""
    path = tmp_path / "mine.onnx"
    export_detector(model, path, Detecting((64, 64)))
    found = compared(path, model)
    assert {row.layer.key: row.shape[1:3] for row in found.rows}["box_head.predict[7]"] == (1, 1)
    assert found.ok, found.verdict
    # Of other outputs suppression keeps another number of rows than of ours: a fault, and no error.
    content = path.read_bytes()
    last = [node.input[1] for node in ModelProto.FromString(content).graph.node if node.op_type == "Conv"][-1]
    wrong = edited(content, path, lambda graph: changed_tensor(graph, last, lambda values: values.fill(0)))
    assert not compared(wrong, model).ok


def test_names_go_first(model: EfficientDet, graph: bytes, tmp_path: Path) -> None:
    path = edited(graph, tmp_path / "mine.onnx")
    tensors = [node.output[0] for node in ModelProto.FromString(graph).graph.node if node.op_type == "Conv"]
    # What is said is not doubted, so a wrong pair is a fault.
    found = compared(path, model, {"backbone.blocks.1.expand": tensors[3]})
    assert {tap.evidence for tap in found.taps if tap.layer.key == "backbone.blocks.1.expand"} == {"you say so"}
    assert found.first_fault == "backbone.blocks.1.expand"
    for names, said in (({"backbone.stm": tensors[0]}, "no layer"), ({"backbone.stem.norm": "x"}, "no node")):
        with pytest.raises(EffconvError, match=said):
            compared(path, model, names)


def test_other_weights_are_not_compared(graph: bytes, tmp_path: Path) -> None:
    path = edited(graph, tmp_path / "mine.onnx")
    other = load_tiny(SWISH)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.randn_like(parameter))
    with pytest.raises(EffconvError, match="no kernel of it is one of tiny-swish's"):
        compared(path, other)


def second_input(graph: ModelProto) -> None:
    graph.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    graph.graph.node.append(helper.make_node("Neg", ["more"], ["less"]))


def grey(graph: ModelProto) -> None:
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def test_what_is_no_graph_of_the_model_is_refused(graph: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"

    def said(*options: object) -> str:
        result = run(path, *options)
        assert result.exit_code == 2, result.output
        assert len(result.stderr.splitlines()) <= 2
        return result.stderr

    assert "no such file" in said()
    for content in (b"", b"not a graph", graph[: len(graph) // 2]):
        path.write_bytes(content)
        assert "not a readable ONNX graph" in said()
    edited(graph, path, second_input)
    assert "expected one input, images; found images, more" in said()
    edited(graph, path, grey)
    assert "expected float32 or uint8 images of (B, 3, H, W)" in said()
    edited(graph, path)
    assert "takes images of 128x160" in said("--size", "256x256")
    assert "--engine: leave --coco out to compare the file" in said("--coco", tmp_path)


def test_an_output_that_is_not_found_is_a_fault(model: EfficientDet) -> None:
    """Without names, weights or values that say which module gives an output, nothing after it could show a fault."""
    port = with_weights_of(model)
    last = port.answers[1]["last"][1]  # type: ignore[index]
    with torch.no_grad():
        for values in last.parameters():
            values.copy_(values.reshape(-1, 4, *values.shape[1:])[:, [1, 0, 3, 2]].reshape(values.shape))
    found = compare(port, model, images=noise(0, SIZE), explain=False)
    assert not found.ok
    assert found.first_fault == "box_head.predict[3]"
    assert "not found in it" in found.verdict
