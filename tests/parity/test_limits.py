"""What a comparison of layers allows, and which wrong float32 results that refuses."""

import itertools
import math

import numpy as np
import pytest
import torch
from single_precision import FLUSHED, flushes, in_float32, plant

from effconv.effdet_torch.backbone import ChannelMean
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison.compare import compare, compare_in_turn, precisions
from effconv.parity.comparison.rounded import SequentialMean, with_sequential_means
from effconv.parity.comparison.rows import first_failure
from effconv.parity.comparison.soundness import sound_layers
from effconv.parity.copying import copied
from effconv.parity.difference import times_bound
from effconv.parity.limits import (
    ACCUMULATED_FACTOR,
    FLOAT64_LIMIT,
    LAMBDA,
    SMALLEST_NORMAL,
    UNDERFLOW,
    UNITS,
    accumulated_limit,
    mean_factor,
    products_factor,
)
from effconv.parity.mistakes.modules import NoGate, override
from effconv.parity.traces.images import noise
from effconv.parity.traces.trace import Activation
from kept_runs import IMAGES, SWISH, Kept, Runs, failing, keep_runs, single_only
from tiny_models import load_tiny

# tools/record_faults.py plants all of them, in both networks; these are of every kind.
SINGLE = (
    "TF32 inputs of the stem",
    "float16 weights of a depthwise convolution",
    "bfloat16 output of a projection",
    "TF32 weights of a squeeze's first convolution",
    "TF32 output of a squeeze's mean",
    "float16 inputs of a batch norm with activation",
    "TF32 output of a gate",
    "TF32 inputs of a fusion",
    "float16 output of an activation",
    "float16 sums in a node's convolution",
    "TF32 weights of the class outputs",
    "a depthwise convolution off by one pixel",
    "an expansion a ten-thousandth too large",
    "one value of an expansion wrong",
    "a fast path wrong for odd widths",
    "zeros from all depthwise kernels",
    "all depthwise kernels in bfloat16",
)
EXPAND, GATE = "backbone.blocks.5.expand", "backbone.blocks.6.squeeze_excite"


@pytest.fixture(scope="module")
def runs() -> Runs:
    return keep_runs()


@pytest.fixture
def model() -> EfficientDet:
    return load_tiny(SWISH)


@pytest.mark.parametrize("kind", FLUSHED)
def test_denormals_flushed_to_zero_are_found(kind: str, model: EfficientDet) -> None:
    # torch.set_flush_denormal and -ffast-math do it. Such numbers are rare, so the clean network is given some.
    fault = flushes(model, kind)
    faulty = copied(model)
    fault.plant(faulty)
    unsound = [
        [key for key, _, sound in sound_layers(each, precisions(each).double, IMAGES) if not sound.ok]
        for each in (model, faulty)
    ]
    assert unsound == [[], [fault.layer]]


def test_local_limits_are_bounds_and_never_a_side_s_own_error(runs: Runs, model: EfficientDet) -> None:
    # A reference whose float32 is off at one layer: its own error is no excuse.
    def noisy(activation: Activation) -> Activation:
        return activation._replace(float32=activation.float32 + np.float32(1e-4))

    clean = {row.layer.key: row for row in compare_in_turn(Kept(runs, model.config), precisions(model), "local")}
    trace = Kept(runs, model.config, **{EXPAND: noisy})
    rows = {row.layer.key: row for row in compare_in_turn(trace, precisions(model), "local")}
    assert not rows[EXPAND].ok
    assert rows[EXPAND].reason.startswith("the reference's float32 differs from its own float64")
    check = rows[EXPAND].checks["float32 local"]
    assert check.noise is not None
    assert check.noise.reference > 100 * clean[EXPAND].checks["float32 local"].noise.reference
    assert check.limit == pytest.approx(clean[EXPAND].checks["float32 local"].limit, rel=0.01)
    for row in clean.values():
        assert row.ok
        assert set(row.soundness) == {"candidate", "reference"}
        exact = row.layer.exact
        assert (row.checks["float32 local"].limit == 0) == exact or row.checks["float32 local"].difference.error == 0
        assert row.checks["float64 local"].limit == FLOAT64_LIMIT


def test_a_convolution_s_bound_is_that_of_its_products(model: EfficientDet) -> None:
    """Recomputed here for one element, product by product."""
    from effconv.convert.layers import layers
    from effconv.parity.comparison.bounds import Bounds

    double = precisions(model).double
    bounds = Bounds(double, [layer for layer in layers(model.config) if layer.key == "backbone.stem.conv"])
    with torch.inference_mode():
        double.backbone.stem.conv(torch.from_numpy(IMAGES).double())
    found = bounds.take("backbone.stem.conv")
    bounds.close()
    weight, patch = (
        model.backbone.stem.conv.weight[3].detach().double(),
        torch.from_numpy(IMAGES)[0, :, 2:5, 4:7].double(),
    )
    total = sum(abs(float(w) * float(x)) for w, x in zip(weight.flatten(), patch.flatten(), strict=True))
    assert found[0, 3, 1, 2].item() == pytest.approx(LAMBDA * math.sqrt(27) * UNITS["float32"] * total, rel=1e-5)
    assert (products_factor(25), mean_factor(100)) == (20.0, 41.0)


@pytest.mark.parametrize("fault", SINGLE)
def test_a_fault_in_float32_alone_is_refused_where_it_is(runs: Runs, model: EfficientDet, fault: str) -> None:
    where = plant(model, fault)
    first = first_failure(list(compare_in_turn(Kept(runs, model.config), precisions(model), "local")))
    assert first is not None
    assert first.layer.key == where
    # Soundness alone, without any reference, finds it too.
    unsound = [key for key, _, sound in sound_layers(model, precisions(model).double, IMAGES) if not sound.ok]
    assert unsound[0] == where


def test_a_reference_in_float32_alone_still_limits_the_candidate(runs: Runs, model: EfficientDet) -> None:
    trace = Kept(runs, model.config, every=single_only)
    assert failing(compare(trace, model)) == {}
    where = plant(model, "bfloat16 inputs of a depthwise convolution")
    rows = compare(trace, model)
    first = first_failure(rows)
    assert first is not None
    assert first.layer.key == where
    assert first.reason.startswith("the candidate's float32 differs from its own float64")


def test_exact_layers_are_compared_bit_for_bit_locally(runs: Runs, model: EfficientDet) -> None:
    key = "bifpn.cells.0.nodes.2.fuse"

    def last_bit(activation: Activation) -> Activation:
        return activation._replace(float32=np.nextafter(activation.float32, np.float32(np.inf)))

    trace = Kept(runs, model.config, **{key: last_bit})
    rows = {row.layer.key: row for row in compare(trace, model)}
    assert rows[key].reason.startswith("float32 local error")
    assert rows[key].reason.endswith("limit 0.0e+00")
    assert rows[key].checks["float32 accumulated"].ok
    trace.exact = False
    assert {row.layer.key: row for row in compare(trace, model)}[key].ok


def test_whole_runs_are_limited_by_what_rounding_every_layer_once_costs(runs: Runs, model: EfficientDet) -> None:
    # Neither noise that a recording declares nor the candidate's own has a part in it.
    declared = Kept(runs, model.config, "accumulated", every=lambda each: each._replace(float64=None, noise=1e-3))
    unknown = Kept(runs, model.config, "accumulated", every=single_only)
    limits = [
        [row.checks["float32 accumulated"].limit for row in compare(trace, model)] for trace in (declared, unknown)
    ]
    assert limits[0] == limits[1]
    assert limits[0] == sorted(limits[0])
    assert accumulated_limit(1e-7) == ACCUMULATED_FACTOR * 1e-7 + FLOAT64_LIMIT
    assert limits[0][-1] < 2e-4
    plant(model, "half as much from all depthwise kernels")
    again = {row.layer.key: row for row in compare(unknown, model)}
    check = again["class_head.predict[7]"].checks["float32 accumulated"]
    assert check.limit == limits[0][[*again].index("class_head.predict[7]")]
    assert not check.ok


def test_a_limit_from_measured_noise_would_let_every_fault_pass(runs: Runs, model: EfficientDet) -> None:
    """What was wrong before: twice the larger of the two sides' own noise holds by the triangle inequality."""
    plant(model, "half as much from all depthwise kernels")
    single, double = (list(compare_in_turn(Kept(runs, model.config), precisions(model), kind)) for kind in runs)
    for row in (*single, *double):
        for name, check in row.checks.items():
            if name.startswith("float32") and check.noise:
                assert check.difference.error <= 2 * max(check.noise[:2]) + FLOAT64_LIMIT or check.noise.estimated


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_judged_by_its_own_unit(dtype: torch.dtype, model: EfficientDet) -> None:
    """Clean layers are sound; one half as large again, and one whose kernel is off by a pixel, are not."""
    half = copied(model).to(dtype)
    double = precisions(half).double
    assert [key for key, _, sound in sound_layers(half, double, IMAGES) if not sound.ok] == []
    wrongs = {
        "backbone.blocks.5.expand_norm": lambda right, x: right(x) * 1.5,
        "backbone.blocks.3.depthwise": lambda right, x: right(x).roll(1, 3),
    }
    for key, wrong in wrongs.items():
        faulty = copied(half)
        in_float32(faulty.get_submodule(key), wrong, dtype)
        unsound = [key for key, _, sound in sound_layers(faulty, precisions(faulty).double, IMAGES) if not sound.ok]
        assert unsound[0] == key


def test_sequential_means_add_one_pixel_after_another(model: EfficientDet) -> None:
    gate = model.get_submodule(GATE)
    x = torch.randn(2, gate.reduce.in_channels, 37, 41, generator=torch.Generator().manual_seed(0)) + 3
    twin = with_sequential_means(model)
    with torch.inference_mode():
        means = twin.get_submodule(f"{GATE}.mean")(x.to(memory_format=torch.channels_last))
        found = twin.get_submodule(GATE)(x.to(memory_format=torch.channels_last))
        assert torch.equal(found, gate.expand(gate.activation(gate.reduce(means))).sigmoid() * x)
    total = np.zeros((2, x.shape[1]), np.float32)
    for row, column in itertools.product(range(37), range(41)):
        total += x[:, :, row, column].numpy()
    assert np.array_equal(means[:, :, 0, 0].numpy(), total / np.float32(37 * 41))
    assert not torch.equal(means, x.mean((2, 3), keepdim=True))
    # The twin's weights are the model's, whose own class stays.
    assert [tensor.data_ptr() for tensor in twin.parameters()] == [tensor.data_ptr() for tensor in model.parameters()]
    assert type(gate.mean) is ChannelMean
    assert type(twin.get_submodule(f"{GATE}.mean")) is SequentialMean
    override(gate, NoGate)
    assert type(with_sequential_means(model).get_submodule(GATE)) is type(gate)


def test_samples_are_compared_with_the_same_places(runs: Runs, model: EfficientDet) -> None:
    def sampled(activation: Activation) -> Activation:
        values = activation.float32.reshape(-1)[::7]
        return Activation(activation.key, values, noise=1e-6, shape=activation.float32.shape, step=7)

    rows = compare(Kept(runs, model.config, "accumulated", every=sampled), model)
    assert failing(rows) == {}
    assert {check.difference.error for row in rows for check in row.checks.values()} == {0.0}
    assert [row.shape for row in rows] == [each.float32.shape for each in runs["accumulated"]]

    def shifted(activation: Activation) -> Activation:
        return sampled(activation)._replace(float32=activation.float32.reshape(-1)[1::7])

    assert set(failing(compare(Kept(runs, model.config, "accumulated", **{EXPAND: shifted}), model))) == {EXPAND}


def test_times_bound_is_the_worst_element_s() -> None:
    a, b = np.zeros((1, 2, 2, 1), np.float32), np.zeros((1, 2, 2, 1))
    a[0, 1, 0, 0], b[0, 0, 0, 0] = 3e-3, 1e-3
    bound = np.full((1, 2, 2, 1), 1e-3, np.float32)
    assert times_bound(a, b, bound) == pytest.approx(3)
    assert times_bound(a, b, bound, 2e-3) == pytest.approx(1)
    assert times_bound(a, b, np.zeros_like(bound)) == math.inf
    # Where some may not differ and do not, the others tell.
    some = bound.copy()
    some[0, 1, 1, 0] = 0
    assert times_bound(a, b, some) == pytest.approx(3)
    assert times_bound(a, a.astype(np.float64), np.zeros_like(bound)) == 0


@pytest.mark.parametrize("name", UNITS)
def test_precisions_are_those_of_the_formats(name: str) -> None:
    if name == "tf32":  # no type of its own: ten bits of mantissa, as float16 has
        assert UNITS[name] == UNITS["float16"]
        return
    kind = torch.finfo(getattr(torch, name))
    assert UNITS[name] == kind.eps / 2
    if name in UNDERFLOW:
        assert UNDERFLOW[name] == (kind.tiny, kind.tiny * kind.eps)
    assert torch.finfo(torch.float32).tiny == SMALLEST_NORMAL


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_plain_sums_in_half_precision_are_sound_too(dtype: torch.dtype) -> None:
    half = load_tiny(SWISH.with_name("tiny-sum8")).to(dtype)
    images = noise(0, (256, 256))
    rows = [(key, sound) for key, _, sound in sound_layers(half, precisions(half).double, images)]
    assert [key for key, sound in rows if not sound.ok] == []
    assert len(rows) > 300
