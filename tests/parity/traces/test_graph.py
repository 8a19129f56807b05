"""Exported graphs as references: every layer is found and agrees, and faults, wrong models and sizes are named.

What damaged and hostile files do is in test_graph_file.py.
"""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import effconv.parity.traces.graph as graph_module
from effconv.convert.layers import layers
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.parity.comparison.compare import compare
from effconv.parity.comparison.rows import Row, first_failure
from effconv.parity.traces.graph import GraphTrace
from effconv.parity.traces.images import noise
from exported_graphs import CONFIG, SWISH, frozen_graph, name_as_keras, older_saved_model, saved_model
from tiny_models import load_tiny

pytestmark = pytest.mark.tf


@pytest.fixture
def model() -> EfficientDet:
    """tiny-swish, to be broken."""
    return load_tiny(SWISH)


def assert_whole(trace: GraphTrace, model: EfficientDet) -> list[Row]:
    """Every layer that the table knows an operation for is compared and agrees."""
    rows = compare(trace, model)
    assert [(row.layer.key, row.reason) for row in rows if not row.ok] == []
    keys = {row.layer.key for row in rows if row.checks}
    # The others are not in the graph, and only the candidate's own float32 is looked at there.
    assert all(set(row.soundness) == {"candidate"} for row in rows)
    assert {row.layer.key for row in rows} == {layer.key for layer in layers(trace.config)}
    expected = {layer.key for layer in layers(trace.config) if layer.operation or layer.consumer}
    if trace.config.activation == "relu6":  # OfficialNetwork does not name the operation that takes these
        expected -= {layer.key for layer in layers(trace.config) if layer.module.endswith(".fuse")}
    assert keys == expected
    assert trace.required <= keys
    assert {f"{kind}_head.predict[{level}]" for kind in ("class", "box") for level in trace.config.levels} <= keys
    assert trace.source["paired"] == len(keys)
    return rows


def test_every_layer_of_a_frozen_graph_agrees(tiny: Path, tmp_path: Path) -> None:
    model = load_tiny(tiny)
    trace = GraphTrace(frozen_graph(tmp_path / "model.pb", tiny, model.config), model.config)
    rows = assert_whole(trace, model)
    assert {name for row in rows for name in row.checks} == {"float32 local", "float32 accumulated"}
    assert all(check.noise and check.noise.estimated for row in rows for check in row.checks.values())
    assert (trace.source["kind"], trace.source["file"], len(trace.source["sha256"])) == ("graph", "model.pb", 64)


def test_names_behind_a_prefix(model: EfficientDet, tmp_path: Path) -> None:
    assert_whole(GraphTrace(frozen_graph(tmp_path / "model.pb", prefix="import/efficientdet"), CONFIG), model)


def test_names_of_a_keras_export(model: EfficientDet, tmp_path: Path) -> None:
    path = frozen_graph(tmp_path / "model.pb", change=name_as_keras)
    for name in (b"class_net/class-0/BiasAdd_1", b"box_net/box-1/separable_conv2d_4", b"max_pooling2d_2/MaxPool"):
        assert name in path.read_bytes()
    assert_whole(GraphTrace(path, CONFIG), model)


def test_saved_model(model: EfficientDet, tmp_path: Path) -> None:
    trace = GraphTrace(saved_model(tmp_path / "model"), CONFIG)
    assert trace.source["kind"] == "saved model"
    assert_whole(trace, model)
    assert GraphTrace(tmp_path / "model" / "saved_model.pb", CONFIG).source["sha256"] == trace.source["sha256"]


def test_saved_model_of_tensorflow_1(model: EfficientDet, tmp_path: Path) -> None:
    assert_whole(GraphTrace(older_saved_model(tmp_path / "model"), CONFIG), model)


def test_groups_give_the_same_activations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = GraphTrace(frozen_graph(tmp_path / "model.pb"), CONFIG)
    whole = {activation.key: activation.float32 for activation in trace.activations("local")}
    assert len(list(trace._groups())) == 1
    monkeypatch.setattr(graph_module, "GROUP_BYTES", 200_000)
    assert len(list(trace._groups())) > 20
    apart = {activation.key: activation.float32 for activation in trace.activations("accumulated")}
    assert list(apart) == list(whole)
    assert all(np.array_equal(apart[key], whole[key]) for key in whole)


def test_what_comes_before_the_network_does_not_matter(model: EfficientDet, tmp_path: Path) -> None:
    def break_preprocessing(definition: Any) -> None:
        next(node for node in definition.node if node.op == "Placeholder").op = "PyFunc"

    path = frozen_graph(tmp_path / "model.pb", change=break_preprocessing)
    images = np.concatenate([noise(seed, CONFIG.image_size) for seed in (1, 2)])  # the export is for one at a time
    assert_whole(GraphTrace(path, CONFIG, images), model)


def test_only_values_matter(model: EfficientDet, tmp_path: Path) -> None:
    def add_hints(definition: Any) -> None:
        definition.node.add(name="check", op="PyFunc")
        for node in definition.node:
            if node.op == "DepthwiseConv2dNative":
                node.input.append("^check")
                node.device = "/job:elsewhere/device:GPU:9"
                node.attr["_class"].list.s.append(b"loc:@nowhere")

    assert_whole(GraphTrace(frozen_graph(tmp_path / "model.pb", change=add_hints), CONFIG), model)


def test_a_layer_that_is_rearranged_before_its_consumer_is_left_out(model: EfficientDet, tmp_path: Path) -> None:
    def pad(definition: Any) -> None:
        consumer = next(node for node in definition.node if node.name.endswith("blocks_1/conv2d/Conv2D"))
        widths = definition.node.add(name="widths", op="Const")
        widths.attr["dtype"].type = widths.attr["value"].tensor.dtype = 3
        widths.attr["value"].tensor.int_val.append(0)
        for size in (4, 2):
            widths.attr["value"].tensor.tensor_shape.dim.add(size=size)
        definition.node.add(name="pad", op="Pad", input=[consumer.input[0], "widths"]).attr["T"].type = 1
        definition.node.add(name="same", op="Identity", input=["pad"]).attr["T"].type = 1
        consumer.input[0] = "same"

    trace = GraphTrace(frozen_graph(tmp_path / "model.pb", change=pad), CONFIG)
    assert trace.source["unpaired"] == ["backbone.blocks.0"]
    assert [row.layer.key for row in compare(trace, model) if not row.ok] == ["backbone.blocks.0"]


def test_norm_epsilon_fault_is_located(model: EfficientDet, tmp_path: Path) -> None:
    model.get_submodule("backbone.blocks.3.project_norm").eps = 1e-5
    row = first_failure(compare(GraphTrace(frozen_graph(tmp_path / "model.pb"), CONFIG), model))
    assert row
    assert row.layer.key == "backbone.blocks.3.project_norm"


@pytest.mark.parametrize(
    ("parameter", "found"),
    [
        ("backbone.stem.conv.weight", "backbone.stem.conv"),
        ("bifpn.cells.1.nodes.4.fuse.edge_weights.1", "bifpn.cells.1.nodes.4.activation"),  # no operation is the sum
        ("class_head.predict.depthwise.weight", "class_head.predict.depthwise[3]"),
        ("box_head.norms.1.5.bias", "box_head.norms.1.5"),
    ],
)
def test_weight_fault_is_located(parameter: str, found: str, model: EfficientDet, tmp_path: Path) -> None:
    model.get_parameter(parameter).data.view(-1)[0] += 1e-2
    row = first_failure(compare(GraphTrace(frozen_graph(tmp_path / "model.pb"), CONFIG), model))
    assert row
    assert row.layer.key == found


def test_image_size_is_that_of_the_graph(tmp_path: Path) -> None:
    path = frozen_graph(tmp_path / "model.pb", config=dataclasses.replace(CONFIG, image_size=(256, 128)))
    assert GraphTrace.image_size(path, CONFIG) == (256, 128)
    assert GraphTrace(path, CONFIG).images.shape == (1, 3, 256, 128)
    with pytest.raises(EffconvError, match=r"images of 256x128 .*, not of 128x160"):
        GraphTrace(path, CONFIG, noise(0, CONFIG.image_size))


def test_graph_for_images_of_any_size(model: EfficientDet, tmp_path: Path) -> None:
    def compute_sizes(definition: Any) -> None:
        # twice the pooled map's size, whatever it is: 2 * shape(map)[1:3]
        for name, values in (("from", [1]), ("to", [3]), ("by", [1]), ("two", [2])):
            constant = definition.node.add(name=name, op="Const")
            constant.attr["dtype"].type = constant.attr["value"].tensor.dtype = 3
            constant.attr["value"].tensor.int_val.extend(values)
            constant.attr["value"].tensor.tensor_shape.dim.add(size=1)
        for node in [node for node in definition.node if node.op == "ResizeNearestNeighbor"]:
            shape = definition.node.add(name=f"{node.name}/shape", op="Shape", input=[node.input[0]])
            shape.attr["T"].type, shape.attr["out_type"].type = 1, 3
            part = definition.node.add(
                name=f"{node.name}/part", op="StridedSlice", input=[shape.name, "from", "to", "by"]
            )
            part.attr["T"].type = part.attr["Index"].type = 3
            double = definition.node.add(name=f"{node.name}/double", op="Mul", input=[part.name, "two"])
            double.attr["T"].type = 3
            node.input[1] = double.name

    config = dataclasses.replace(CONFIG, image_size=(128, 128))  # tiny-swish's own width is not always halved
    path = frozen_graph(tmp_path / "model.pb", config=config, change=compute_sizes)
    assert GraphTrace.image_size(path, CONFIG) is None
    for size in ((128, 128), (128, 256)):
        assert_whole(GraphTrace(path, config, noise(0, size)), model)
    with pytest.raises(EffconvError, match=r"TensorFlow cannot run it as a tiny-swish on images \(1, 3, 128, 160\)"):
        GraphTrace(path, config, noise(0, (128, 160)))


def test_graph_of_another_model(model: EfficientDet, tmp_path: Path) -> None:
    other = get_config(str(SWISH.parent / "tiny-sum8" / "config.json"))  # its backbone has the same name
    path = frozen_graph(tmp_path / "sum8.pb", SWISH.parent / "tiny-sum8", other)
    with pytest.raises(EffconvError, match="TensorFlow cannot run it as a tiny-swish"):
        GraphTrace(path, CONFIG)
    rows = compare(GraphTrace(path, CONFIG, noise(0, other.image_size)), model)
    failed = {row.layer.key: row.reason for row in rows if not row.ok}
    assert failed["bifpn.cells.0.nodes.0.norm"] == "not in the reference"
    lite = get_config(str(SWISH.parent / "tiny-lite" / "config.json"))
    path = frozen_graph(tmp_path / "lite.pb", SWISH.parent / "tiny-lite", lite)
    with pytest.raises(EffconvError, match=f"no operation {CONFIG.backbone}/stem/conv2d/Conv2D.*{lite.backbone}/stem"):
        GraphTrace(path, CONFIG)


def test_a_missing_output_is_a_failing_row(model: EfficientDet, tmp_path: Path) -> None:
    def rename(definition: Any) -> None:
        for node in definition.node:
            node.name = node.name.replace("box-predict_2/", "box-elsewhere/")
            node.input[:] = [name.replace("box-predict_2/", "box-elsewhere/") for name in node.input]

    trace = GraphTrace(frozen_graph(tmp_path / "model.pb", change=rename), CONFIG)
    assert trace.source["unpaired"] == ["box_head.norms.1.5", "box_head.predict.depthwise[5]", "box_head.predict[5]"]
    failed = {row.layer.key: row.reason for row in compare(trace, model) if not row.ok}
    assert failed == {"box_head.predict[5]": "not in the reference"}


@pytest.mark.parametrize("missing", ["efficientnet-b0/stem/conv2d/Conv2D", "class_net/class-predict", "box_net/box-"])
def test_no_stem_or_no_outputs(missing: str, tmp_path: Path) -> None:
    def rename(definition: Any) -> None:
        for node in definition.node:
            node.name = node.name.replace(missing, "renamed/x")

    with pytest.raises(EffconvError, match=f"model.pb: no operation {missing}"):
        GraphTrace(frozen_graph(tmp_path / "model.pb", change=rename), CONFIG)


def test_half_precision_is_refused(tmp_path: Path) -> None:
    def halve(definition: Any) -> None:
        next(node for node in definition.node if node.name.endswith("stem/conv2d/Conv2D")).attr["T"].type = 19

    with pytest.raises(EffconvError, match="is not a float32 convolution"):
        GraphTrace(frozen_graph(tmp_path / "model.pb", change=halve), CONFIG)


def test_importing_does_not_import_tensorflow() -> None:
    code = "import effconv.parity.traces.graph, sys; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
