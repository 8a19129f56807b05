"""Gradients beside TensorFlow's tape: every trainable variable, and what a fault looks like."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from effconv.convert.rules import rules
from effconv.effdet_torch.config import Config
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.loading import load
from effconv.parity.comparison import backward
from effconv.parity.comparison.backward import FLOAT32_FACTOR, GradientRow, coefficients, compare_gradients
from effconv.parity.embedded import FOLDER, embedded_config
from effconv.parity.limits import FLOAT64_LIMIT
from effconv.parity.mistakes.modules import NoGate, override
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import official_variables
from tensors import config_of
from tiny_models import load_tiny

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
SIZES = {7: (65, 97), 8: (129, 130)}  # by the highest level
EXPAND = "backbone.blocks.5.expand"

pytestmark = pytest.mark.tf


def images_of(config: Config) -> np.ndarray:
    return noise(5, SIZES[config.max_level])


@pytest.fixture(scope="module")
def swish_rows() -> Callable[[EfficientDet], dict[str, GradientRow]]:
    """Compare a changed tiny model's gradients; TensorFlow's are computed once."""
    config = config_of(SWISH)
    variables, images = official_variables(SWISH, config)[0], images_of(config)
    computed: dict[str, dict[str, np.ndarray]] = {}
    original = backward.gradients

    def once(*arguments: object) -> dict[str, np.ndarray]:
        precision = str(arguments[-1])
        if precision not in computed:
            computed[precision] = original(*arguments)
        return computed[precision]

    def rows(model: EfficientDet) -> dict[str, GradientRow]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backward, "gradients", once)
            return {row.variable: row for row in compare_gradients(model, variables, images)}

    return rows


def test_every_gradient_of_the_tiny_models(tiny: Path) -> None:
    config = config_of(tiny)
    model = load_tiny(tiny)
    before = copy.deepcopy(model.state_dict())
    rows = compare_gradients(model, official_variables(tiny, config)[0], images_of(config))
    assert [f"{row.variable}: {row.fault or row.checks}" for row in rows if not row.ok] == []
    assert {row.variable for row in rows} == {name for name, _ in model.named_parameters()}
    by_torch = {rule.torch: rule for rule in rules(config)}
    assert [row.official for row in rows] == [by_torch[row.variable].tf for row in rows]
    moved = 0
    for row in rows:
        double, single = row.checks["float64"], row.checks["float32"]
        assert (double.limit, double.noise) == (FLOAT64_LIMIT, None)
        assert single.noise is not None
        assert single.limit == FLOAT32_FACTOR * max(single.noise[:2]) + FLOAT64_LIMIT
        moved += single.noise.reference > 0 and single.noise.candidate > 0
    assert moved > 0.8 * len(rows)  # float32 rounds, so the two precisions are two computations
    worst = max(row.checks["float64"].difference.error for row in rows)
    print(f"{len(rows)} gradients, float64 at most {worst:.1e} apart")
    assert worst < FLOAT64_LIMIT / 10
    # The candidate is left as it was.
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_every_output_counts() -> None:
    config = config_of(SWISH)
    found = coefficients(config, (64, 97), 2)
    assert list(found) == [f"{kind}_outputs/{level}" for kind in ("class", "box") for level in config.levels]
    for name, values in found.items():
        kind, level = name.split("_outputs/")
        height, width = (-(-side // 2 ** int(level)) for side in (64, 97))
        channels = config.num_anchors * {"class": config.num_classes, "box": 4}[kind]
        assert values.shape == (2, height, width, channels)
        assert values.dtype == np.float32
        assert np.all(values != 0)
        assert 0.7 < values.std() * values.size < 1.3
    again = coefficients(config, (64, 97), 2)
    assert all(np.array_equal(again[name], values) for name, values in found.items())


def test_a_model_in_training_is_compared_as_at_inference(
    swish_rows: Callable[[EfficientDet], dict[str, GradientRow]],
) -> None:
    model = load_tiny(SWISH).train().requires_grad_(False)
    assert all(row.ok for row in swish_rows(model).values())
    assert model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def kernel_a_millionth_larger(model: EfficientDet) -> None:
    with torch.no_grad():
        model.get_submodule(EXPAND).weight[3, 2] *= 1 + 1e-6


def other_epsilon(model: EfficientDet) -> None:
    model.get_submodule(f"{EXPAND}_norm").eps = 1e-5


@pytest.mark.parametrize("plant", [kernel_a_millionth_larger, other_epsilon])
def test_a_fault_shows_in_the_gradients(
    plant: Callable[[EfficientDet], None], swish_rows: Callable[[EfficientDet], dict[str, GradientRow]]
) -> None:
    model = load_tiny(SWISH)
    plant(model)
    rows = swish_rows(model)
    failing = [row for row in rows.values() if not row.ok]
    assert not rows["backbone.stem.conv.weight"].ok
    assert len(failing) > len(rows) / 2
    assert not any(row.fault for row in failing)


def in_bfloat16(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.bfloat16().float()


def in_tf32(gradient: torch.Tensor) -> torch.Tensor:
    """Of 23 bits the upper 10, rounded."""
    bits = gradient.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def half_too_large(gradient: torch.Tensor) -> torch.Tensor:
    return gradient * 1.5


def lost(gradient: torch.Tensor) -> torch.Tensor:
    return gradient * 0


def plant_in_float32(model: EfficientDet, path: str, fault: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change, in float32 alone, the gradient that comes back to a module's output; the forward pass stays."""

    class Faulty(torch.autograd.Function):
        @staticmethod
        def forward(context: object, x: torch.Tensor) -> torch.Tensor:
            return x.view_as(x)

        @staticmethod
        def backward(context: object, gradient: torch.Tensor) -> torch.Tensor:
            return fault(gradient)

    module = model.get_submodule(path)
    module.register_forward_hook(lambda module, inputs, x: Faulty.apply(x) if x.dtype == torch.float32 else x)


FLOAT32_FAULTS = (in_bfloat16, in_tf32, half_too_large, lost)
FLOAT32_PLACES = (EXPAND, "backbone.stem.conv", "bifpn.cells.0.nodes.3.conv.pointwise", "class_head.convs.0.pointwise")


@pytest.mark.parametrize("path", FLOAT32_PLACES)
@pytest.mark.parametrize("fault", FLOAT32_FAULTS)
def test_a_backward_fault_of_float32_alone_is_refused(
    fault: Callable[[torch.Tensor], torch.Tensor],
    path: str,
    swish_rows: Callable[[EfficientDet], dict[str, GradientRow]],
) -> None:
    model = load_tiny(SWISH)
    plant_in_float32(model, path, fault)
    rows = swish_rows(model)
    assert not rows[f"{path}.weight"].ok
    assert all(row.checks["float64"].ok for row in rows.values())
    # Gradients that do not pass that module hold.
    assert rows["class_head.predict.pointwise.weight"].ok
    assert rows["box_head.predict.pointwise.weight"].ok


def test_the_embedded_detector_holds_and_its_faults_of_float32_alone_do_not() -> None:
    config, images = embedded_config(), noise(0, (128, 128))
    variables, path = official_variables(FOLDER, config)[0], "backbone.blocks.5.expand"
    refused = {}
    for fault in (None, *FLOAT32_FAULTS):
        model = load(FOLDER, model=config)
        if fault:
            plant_in_float32(model, path, fault)
        refused[fault] = {row.variable for row in compare_gradients(model, variables, images) if not row.ok}
    assert refused.pop(None) == set()
    assert all(f"{path}.weight" in found for found in refused.values())


def test_a_forward_fault_of_float32_alone_widens_no_limit(
    swish_rows: Callable[[EfficientDet], dict[str, GradientRow]],
) -> None:
    """It would, ten thousand times, if the limits took float32 maps however far they are from float64's."""
    clean, model = load_tiny(SWISH), load_tiny(SWISH)
    model.get_submodule(EXPAND).register_forward_hook(
        lambda module, inputs, x: x + (x.bfloat16().float() - x).detach() if x.dtype == torch.float32 else x
    )
    before, rows = swish_rows(clean), swish_rows(model)
    wider = max(row.checks["float32"].limit / before[name].checks["float32"].limit for name, row in rows.items())
    print(f"limits at most {wider:.1f} times as wide")
    assert wider < 2
    assert not rows[f"{EXPAND}.weight"].ok


def test_a_parameter_without_gradient_is_a_fault(swish_rows: Callable[[EfficientDet], dict[str, GradientRow]]) -> None:
    gate = "backbone.blocks.6.squeeze_excite"
    model = load_tiny(SWISH)
    override(model.get_submodule(gate), NoGate)
    rows = swish_rows(model)
    without = {name for name, row in rows.items() if row.fault}
    assert without == {f"{gate}.{part}" for part in ("reduce.weight", "reduce.bias", "expand.weight", "expand.bias")}
    assert {rows[name].fault for name in without} == {"no gradient in the candidate"}
    assert not any(rows[name].ok or rows[name].checks for name in without)


@pytest.mark.parametrize(("value", "fault"), [(np.nan, "NaN in the candidate"), (1e30, " in the candidate")])
def test_gradients_that_are_not_finite(
    value: float, fault: str, swish_rows: Callable[[EfficientDet], dict[str, GradientRow]]
) -> None:
    model = load_tiny(SWISH)
    with torch.no_grad():
        model.get_submodule(EXPAND).weight[0] = value
        model.get_submodule("backbone.blocks.6.project").weight[0] = value
    rows = swish_rows(model)
    assert rows[f"{EXPAND}.weight"].fault.endswith(fault)
    assert not rows[f"{EXPAND}.weight"].ok


class OneBias(nn.Conv2d):
    """A convolution that adds one bias to all channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight) + self.bias


def test_a_parameter_of_another_shape_is_a_fault(swish_rows: Callable[[EfficientDet], dict[str, GradientRow]]) -> None:
    model = load_tiny(SWISH)
    override(model.class_head.predict.pointwise, OneBias)
    model.class_head.predict.pointwise.bias = nn.Parameter(torch.zeros(1))
    row = swish_rows(model)["class_head.predict.pointwise.bias"]
    assert row.fault == "shape (1,) instead of (63,) in the candidate"


def test_a_row_without_checks_does_not_hold() -> None:
    assert not GradientRow("a", "b", (1,), {}).ok


def test_a_model_that_stops_is_an_error(swish_rows: Callable[[EfficientDet], dict[str, GradientRow]]) -> None:
    model = load_tiny(SWISH)

    def stop(module: nn.Module, inputs: object) -> None:
        raise RuntimeError("maps do not fit\nmore")

    model.bifpn.register_forward_pre_hook(stop)
    with pytest.raises(EffconvError, match=r"the candidate's run stopped: maps do not fit$"):
        swish_rows(model)
