"""What an engine or a precision costs: a wrong one's error is found, and its AP is its own."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from effconv.effdet_torch.engines.onnx_export import export_onnx
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.loading import load
from effconv.parity.benchmarks.precision import Pictures, find, largest_errors, precision_row, prepared
from effconv.parity.benchmarks.precision_forms import FLOAT32, FORMS, PER_CHANNEL, Form, Made, Outputs, make_form
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.shapes import write_shapes
from effconv.parity.embedded import CONFIG, FOLDER, HELD_OUT_SIZE
from effconv.parity.evaluation.pipeline import Pipeline, Settings, build
from effconv.parity.exporting.onnx_int8 import quantized_graph

PICTURES = 8


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    return load(FOLDER, model=str(CONFIG))


@pytest.fixture(scope="module")
def pipeline(model: EfficientDet) -> Pipeline:
    return build(model.config, Settings())


@pytest.fixture(scope="module")
def pictures(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    folder = tmp_path_factory.mktemp("drawn")
    write_shapes(folder, "val2017", PICTURES, 3, HELD_OUT_SIZE)
    return prepared(read_dataset(folder), pipeline)


def outputs(network: EfficientDet, pictures: Pictures) -> Outputs:
    with torch.inference_mode():
        logits, codes = network(pictures.inputs)
    return logits, codes


def test_a_kernel_that_is_a_percent_off_is_an_error_of_its_head_alone(model: EfficientDet, pictures: Pictures) -> None:
    wrong = copy.deepcopy(model)
    with torch.no_grad():
        for each in wrong.class_head.predict.parameters():
            each *= 1.01 if each.dim() == 1 or each.shape[-1] == 1 else 1.0  # the bias, and the kernel that adds to it
    class_error, box_error = largest_errors(outputs(wrong, pictures), outputs(model, pictures))
    assert class_error == pytest.approx(0.01, rel=1e-3)
    assert box_error == 0


def test_an_error_on_one_picture_and_level_is_found(model: EfficientDet, pictures: Pictures) -> None:
    expected = outputs(model, pictures)
    found = tuple([each.clone() for each in kind] for kind in expected)
    found[1][4][5] += 0.5 * expected[1][4].abs().max()
    assert largest_errors((found[0], found[1]), expected) == (0, pytest.approx(0.5))
    found[0][0][2, 0, 0, 0] = float("nan")
    assert largest_errors((found[0], found[1]), expected)[0] == float("inf")


def test_an_engine_that_swaps_categories_has_an_ap_of_its_own(
    model: EfficientDet, pictures: Pictures, pipeline: Pipeline
) -> None:
    right = make_form(FLOAT32, model, ())

    def swapped(image: torch.Tensor) -> Outputs:
        logits, codes = right.run(image)
        anchors = model.config.num_anchors
        return [each.unflatten(1, (anchors, -1)).flip(2).flatten(1, 2) for each in logits], codes

    baseline = find(right.run, pictures, pipeline)
    same = precision_row(FLOAT32, right, baseline, baseline)
    assert same.ap > 0.3
    assert (same.class_error, same.box_error, same.change.difference, same.change.verdict) == (0, 0, 0, "no effect")
    other = precision_row(Form("swapped", "float32"), Made(swapped, 5), find(swapped, pictures, pipeline), baseline)
    assert other.ap < 0.1
    assert other.change.difference == pytest.approx(other.ap - same.ap, abs=1e-12)
    assert other.change.high < 0
    assert other.change.verdict == "worse"
    assert other.class_error is not None
    assert other.class_error > 0.1
    assert other.box_error == 0


@pytest.mark.parametrize(
    ("form", "low", "high"),
    [
        (Form("fast", "float32"), 0, 1e-5),
        (Form("eager", "float16"), 1e-4, 0.02),
        (Form("fast", "bfloat16"), 1e-3, 0.2),
    ],
)
def test_a_form_computes_in_its_precision(
    form: Form, low: float, high: float, model: EfficientDet, pictures: Pictures
) -> None:
    """Units in the last place: 2**-24, 2**-11, 2**-9; 2**-11 alone is more than `low` of float16."""
    assert form in FORMS
    logits, codes = make_form(form, model, ()).run(pictures.inputs)
    assert {each.dtype for each in (*logits, *codes)} == {torch.float32}
    error = max(largest_errors((logits, codes), outputs(model, pictures)))
    assert low <= error < high


@pytest.mark.slow
def test_onnx_in_int8_has_a_scale_for_a_kernel_or_for_each_of_its_channels(
    model: EfficientDet, pictures: Pictures, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    export_onnx(model, tmp_path / "float32.onnx", model.config.image_size)
    graph = (tmp_path / "float32.onnx").read_bytes()
    images = list(pictures.inputs.numpy())
    for per_channel in (False, True):
        found = quantized_graph(graph, images, per_channel=per_channel)
        assert len(found) < 0.5 * len(graph)
        kept = onnx.load_from_string(found).graph.initializer
        tensors = {each.name: onnx.numpy_helper.to_array(each) for each in kept}
        assert max(each.ndim for each in tensors.values() if each.dtype == np.int8) == 4  # kernels
        scales = [each.size for name, each in tensors.items() if name.endswith("_scale")]
        assert len(scales) > 100
        assert (max(scales) > 1) == per_channel
    with pytest.raises(EffconvError, match="expected at least one, found none"):
        quantized_graph(graph, [], per_channel=True)


def test_every_form_of_int8_says_its_scales() -> None:
    assert all((form.scales is not None) == (form.precision == "int8") for form in FORMS)
    assert Form("tflite", "int8", PER_CHANNEL) in FORMS
