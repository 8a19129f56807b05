"""A walk through our own model: what it yields, what may be put in a layer's place, and how it ends."""

import copy
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from effconv.convert.layers import Layer, layers
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison.compare import compare, compare_in_turn, precisions
from effconv.parity.difference import relative_error
from effconv.parity.mistakes.modules import NoGate, override
from effconv.parity.traces.candidate import Lockstep, walk
from effconv.parity.traces.candidate_trace import CandidateTrace
from kept_runs import IMAGES, SWISH, hooks
from tiny_models import load_tiny

STEM, NORM = "backbone.stem.conv", "backbone.stem.norm"


@pytest.fixture
def model() -> EfficientDet:
    return load_tiny(SWISH)


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_a_walk_yields_every_layer_once_and_computes_what_the_model_does(model: EfficientDet) -> None:
    found = {step.key: step.activation.clone() for step in walk(model, torch.from_numpy(IMAGES), layers(model.config))}
    assert list(found) == [layer.key for layer in layers(model.config)]
    assert hooks(model) == 0
    with torch.inference_mode():
        outputs = model(torch.from_numpy(IMAGES))
    for head, maps in zip(("class", "box"), outputs, strict=True):
        for level, output in zip(model.config.levels, maps, strict=True):
            assert torch.equal(found[f"{head}_head.predict[{level}]"], output)


@pytest.mark.parametrize("steps", [0, 1, 40])
def test_a_walk_closed_early_leaves_nothing_behind(steps: int, model: EfficientDet) -> None:
    with torch.inference_mode():
        expected = model(torch.from_numpy(IMAGES))
    before = threading.active_count()
    run = walk(model, torch.from_numpy(IMAGES), layers(model.config))
    for _ in range(steps):
        next(run)
    assert threading.active_count() == before + (steps > 0)
    run.close()
    assert threading.active_count() == before
    assert hooks(model) == 0
    with torch.inference_mode():
        again = model(torch.from_numpy(IMAGES))
    assert all(
        torch.equal(one, other) for pair in zip(expected, again, strict=True) for one, other in zip(*pair, strict=True)
    )


def test_a_comparison_left_early_leaves_nothing_behind(model: EfficientDet) -> None:
    other = load_tiny(SWISH)
    run = compare_in_turn(CandidateTrace(other, IMAGES, {}), precisions(model), "local")
    next(run)
    run.close()
    assert hooks(model) == hooks(other) == 0


def test_a_layer_whose_module_is_missing_is_refused_and_leaves_nothing(model: EfficientDet) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        next(walk(model, torch.from_numpy(IMAGES), [*layers(model.config), Layer("nowhere")]))
    assert hooks(model) == 0


@pytest.mark.slow
def test_a_model_can_be_compared_with_itself() -> None:
    """Two walks of one model at a time do not take each other's layers: in a process of its own, as it could hang."""
    code = (
        "import sys; import effconv; from effconv.parity.traces.candidate_trace import CandidateTrace\n"
        "from effconv.parity.comparison.compare import compare; from effconv.parity.traces.images import noise\n"
        "model = effconv.load(sys.argv[1], model=sys.argv[1] + '/config.json')\n"
        "print(all(row.ok for row in compare(CandidateTrace(model, noise(0, (64, 64)), {}), model)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SWISH)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "True\n", done.stderr


def test_the_walk_uses_as_many_threads_as_its_caller(model: EfficientDet) -> None:
    before = torch.get_num_threads()
    counted = []
    model.backbone.stem.register_forward_pre_hook(lambda module, inputs: counted.append(torch.get_num_threads()))
    try:
        torch.set_num_threads(before + 1)
        for _ in walk(model, torch.from_numpy(IMAGES), layers(model.config)):
            pass
    finally:
        torch.set_num_threads(before)
    assert counted == [before + 1]


def test_no_gradient_is_recorded(model: EfficientDet) -> None:
    assert not any(
        step.activation.requires_grad for step in walk(model, torch.from_numpy(IMAGES), layers(model.config))
    )


# --- in lockstep -------------------------------------------------------------------------------------------------


def test_a_replacement_is_what_the_next_layers_get(model: EfficientDet) -> None:
    table = layers(model.config)
    run = Lockstep(model, IMAGES, table)
    stem = run.at(STEM)
    assert stem is not None
    other = np.random.default_rng(0).standard_normal(stem.shape).astype(np.float32)
    run.replace("backbone.blocks.0", other)  # not the layer at hand: ignored
    run.replace(STEM, other)
    found = run.at(NORM)
    run.close()
    with torch.inference_mode():
        expected = model.backbone.stem.norm(torch.from_numpy(other).permute(0, 3, 1, 2).contiguous())
    assert found is not None
    assert np.array_equal(found.transpose(0, 3, 1, 2), expected.numpy())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_replacement_has_the_models_layout_and_precision(
    memory_format: torch.memory_format, dtype: torch.dtype, model: EfficientDet
) -> None:
    model = model.to(dtype=dtype, memory_format=memory_format)
    taken = []
    model.backbone.stem.norm.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    run = Lockstep(model, IMAGES, layers(model.config))
    own = run.at(STEM)
    assert own is not None
    assert own.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    value = np.float64(1) / 3 if dtype == torch.float64 else np.float32(1) / 3
    run.replace(STEM, np.full(own.shape, value))
    run.at(NORM)
    run.close()
    assert taken[0].dtype == dtype
    assert taken[0].is_contiguous(memory_format=memory_format)
    assert taken[0].flatten()[0] == torch.tensor(1 / 3, dtype=dtype)


def test_layers_are_asked_for_in_order_and_may_be_passed_over(model: EfficientDet) -> None:
    run = Lockstep(model, IMAGES, layers(model.config))
    last = run.at("box_head.predict[7]")
    assert last is not None
    assert last.shape == (1, 1, 1, 36)
    assert run.at(STEM) is None  # gone by
    run.close()
    assert run.stopped == ""


# --- precision and layout ----------------------------------------------------------------------------------------


def test_another_memory_layout_is_no_difference(model: EfficientDet) -> None:
    other = load_tiny(SWISH).to(memory_format=torch.channels_last)
    rows = compare(CandidateTrace(model, IMAGES, {}), other)
    assert [f"{row.layer.key}: {row.reason}" for row in rows if not row.ok] == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_candidate_is_another_network(dtype: torch.dtype, model: EfficientDet) -> None:
    """Its rounded weights show in float64; in its own precision it is as near as that precision's noise."""
    rows = compare(CandidateTrace(model, IMAGES, {}), load_tiny(SWISH).to(dtype))
    first = rows[0].checks
    assert not first["float64 local"].ok
    assert first["float32 local"].noise.candidate > 1e3 * first["float32 local"].noise.reference
    assert all("in the candidate" not in row.reason for row in rows)
    assert sum(not row.checks["float64 accumulated"].ok for row in rows) == len(rows)


def test_local_runs_follow_from_the_models_own_float32(model: EfficientDet) -> None:
    def gaps(kind: str) -> dict[str, float]:
        trace = CandidateTrace(model, IMAGES, {})
        return {each.key: relative_error(each.float32, each.float64, 1.0) for each in trace.activations(kind)}

    local, accumulated = gaps("local"), gaps("accumulated")
    copies = [layer.key for layer in layers(model.config) if layer.exact and "resamples" in layer.key]
    assert {local[key] for key in copies} == {0.0}
    assert local[STEM] == accumulated[STEM] > 0
    assert sum(accumulated[key] > 2 * local[key] for key in local) > len(local) / 2


def test_a_trace_lacks_what_its_model_leaves_out(model: EfficientDet) -> None:
    gate = "backbone.blocks.6.squeeze_excite"
    override(model.get_submodule(gate), NoGate)
    found = [each.key for each in CandidateTrace(model, IMAGES, {}).activations("local")]
    left_out = {f"{gate}.mean", f"{gate}.reduce", f"{gate}.expand"}
    assert found == [layer.key for layer in layers(model.config) if layer.key not in left_out]


def test_a_trace_of_a_model_keeps_it_as_it_is(model: EfficientDet) -> None:
    before = copy.deepcopy(model.state_dict())
    trace = CandidateTrace(model, IMAGES, {"weights": "x"})
    for kind in trace.kinds:
        assert sum(1 for _ in trace.activations(kind)) == len(layers(model.config))
    assert trace.source["weights"] == "x"
    assert trace.source["kind"] == "torch"
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert hooks(model) == 0
