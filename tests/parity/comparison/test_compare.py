"""Comparing a trace with a model: what either may do wrong, how a verdict is made, and what is kept in memory."""

import threading
import weakref
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from effconv.convert.layers import Layer, layers
from effconv.effdet_torch.backbone import EfficientNet, Stem
from effconv.effdet_torch.bifpn import ImageSizeError
from effconv.effdet_torch.heads import Head
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison import checks
from effconv.parity.comparison.compare import compare, compare_in_turn, precisions
from effconv.parity.comparison.rows import Check, Row, first_failure
from effconv.parity.difference import difference
from effconv.parity.gaps import Gap, Pair, measure
from effconv.parity.mistakes.modules import NoGate, override
from effconv.parity.traces.images import noise
from effconv.parity.traces.trace import Activation, Kind
from kept_runs import SWISH, Edit, Kept, Runs, failing, hooks, keep_runs, single_only
from tiny_models import load_tiny

EXPAND, GATE = "backbone.blocks.5.expand", "backbone.blocks.6.squeeze_excite"


@pytest.fixture(scope="module")
def runs() -> Runs:
    return keep_runs()


@pytest.fixture
def model() -> EfficientDet:
    return load_tiny(SWISH)


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_a_model_beside_itself(runs: Runs, model: EfficientDet) -> None:
    counted = []
    rows = compare(Kept(runs, model.config), model, lambda done, total: counted.append((done, total)))
    assert failing(rows) == {}
    assert [row.layer for row in rows] == list(layers(model.config))
    assert {check.difference.error for row in rows for check in row.checks.values()} == {0.0}
    # Local, what rounding costs, accumulated.
    assert counted == [(done, 3 * len(rows)) for done in range(1, 3 * len(rows) + 1)]
    assert list(rows[0].checks) == ["float64 local", "float32 local", "float64 accumulated", "float32 accumulated"]
    assert first_failure(rows) is None
    assert hooks(model) == 0


def test_a_fault_is_local_to_its_layer(runs: Runs, model: EfficientDet) -> None:
    with torch.no_grad():
        model.get_submodule(EXPAND).weight[3] *= 1.001
    rows = compare(Kept(runs, model.config), model)
    keys = [row.layer.key for row in rows]
    place = keys.index(EXPAND)
    assert [row.layer.key for row in rows if row.is_source] == [EXPAND]
    assert all(row.ok for row in rows[:place])
    assert sum(not row.ok for row in rows[place:]) > 0.9 * len(rows[place:])
    found = first_failure(rows)
    assert found is not None
    assert found.layer.key == EXPAND
    assert found.reason.startswith("float64 local error ")


# --- what either side may do wrong -------------------------------------------------------------------------------


def with_value(value: float) -> Edit:
    def edit(activation: Activation) -> Activation:
        array = activation.float32.copy()
        array[0, -1, -1, -1] = value
        return activation._replace(float32=array)

    return edit


def test_faults_of_the_reference(runs: Runs, model: EfficientDet) -> None:
    first, second, third, fourth, fifth = (f"backbone.blocks.{index}.project" for index in (2, 4, 5, 6, 8))
    edits: dict[str, Edit] = {
        first: with_value(np.nan),
        second: with_value(-np.inf),
        third: lambda activation: None,
        fourth: lambda activation: activation._replace(key="backbone.surplus"),
        fifth: lambda activation: activation._replace(float32=activation.float32[:, :-1], float64=None),
    }
    expected = {
        "backbone.surplus": "in the reference, but no layer of this model",
        first: "NaN in the reference",
        second: "infinity in the reference",
        third: "not in the reference",
        fourth: "not in the reference",
        fifth: "shape (1, 2, 2, 32), in the reference (1, 1, 2, 32)",
    }
    rows = compare(Kept(runs, model.config, "accumulated", **edits), model)
    assert failing(rows) == expected
    assert [row.layer.key for row in rows][1:] == [layer.key for layer in layers(model.config)]
    assert all(not row.checks for row in rows if not row.ok)
    assert all(row.is_source is False for row in rows)  # nothing local was compared


def test_a_layer_that_is_not_required_may_be_missing(runs: Runs, model: EfficientDet) -> None:
    trace = Kept(runs, model.config, "accumulated", **{EXPAND: lambda activation: None})
    trace.required -= {EXPAND}
    rows = compare(trace, model)
    assert failing(rows) == {}
    # The candidate's own float32 is looked at all the same.
    assert [(row.layer.key, *row.soundness) for row in rows if not row.checks] == [(EXPAND, "candidate")]
    assert len(rows) == len(layers(model.config))


def test_a_reference_of_zeros_is_not_met_by_other_values(runs: Runs, model: EfficientDet) -> None:
    """Relative to nothing, every error is infinite, and so is the noise: that is no agreement."""
    trace = Kept(runs, model.config, "accumulated", every=single_only)
    trace.edits[EXPAND] = lambda each: single_only(each)._replace(float32=np.zeros_like(each.float32))
    assert set(failing(compare(trace, model))) == {EXPAND}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_in_the_candidate(value: float, runs: Runs, model: EfficientDet) -> None:
    with torch.no_grad():
        model.get_submodule(EXPAND).weight[3] = value
    rows = compare(Kept(runs, model.config), model)
    assert [row.layer.key for row in rows if row.is_source] == [EXPAND]
    found = first_failure(rows)
    assert found is not None
    name = "NaN" if np.isnan(value) else "infinity"
    assert found.layer.key == EXPAND
    assert name in found.reason or "NaN" in found.reason  # infinity times zero is NaN
    assert found.reason.endswith("in the candidate")


def test_a_model_that_stops(runs: Runs, model: EfficientDet) -> None:
    def stop(module: nn.Module, inputs: object) -> None:
        raise RuntimeError("maps do not fit\nmore")

    model.bifpn.cells[1].nodes[2].register_forward_pre_hook(stop)
    rows = compare(Kept(runs, model.config), model)
    keys = [row.layer.key for row in rows]
    place = next(index for index, key in enumerate(keys) if key.startswith("bifpn.cells.1.nodes.2."))
    assert all(row.ok for row in rows[:place])
    assert set(failing(rows)) == set(keys[place:])
    assert {row.reason for row in rows[place:]} == {"not computed by the candidate: its run stopped (maps do not fit)"}
    assert hooks(model) == 0


@pytest.mark.parametrize("error", [TypeError("odd"), KeyboardInterrupt()])
def test_other_errors_come_through_and_leave_nothing(error: BaseException, runs: Runs, model: EfficientDet) -> None:
    def stop(module: nn.Module, inputs: object) -> None:
        raise error

    model.bifpn.cells[0].nodes[0].register_forward_pre_hook(stop)
    with pytest.raises(type(error)):
        compare(Kept(runs, model.config), model)
    assert hooks(model) == 0


def test_images_that_do_not_suit_the_model(runs: Runs, model: EfficientDet) -> None:
    trace = Kept(runs, model.config)
    trace.images = noise(0, (512, 16))
    with pytest.raises(ImageSizeError):
        compare(trace, model)
    assert hooks(model) == 0


def test_a_layer_left_out_is_named_and_the_rest_compared(runs: Runs, model: EfficientDet) -> None:
    override(model.get_submodule(GATE), NoGate)
    rows = {row.layer.key: row for row in compare(Kept(runs, model.config), model)}
    left_out = [f"{GATE}.mean", f"{GATE}.reduce", f"{GATE}.expand"]
    assert {rows[key].reason for key in left_out} == {"not computed by the candidate"}
    sources = [key for key, row in rows.items() if row.is_source]
    assert sources == [*left_out, GATE]
    assert rows["class_head.predict[3]"].checks


class TwiceStem(Stem):
    """Computes its convolution a second time."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv(images)
        self.conv(torch.zeros_like(images))
        return self.norm(x)


class AgainBackbone(EfficientNet):
    """Computes its first layer once more when it is done."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        features = super().forward(images)
        self.stem.conv(torch.zeros_like(images))
        return features


class AgainHead(Head):
    """Computes a layer that the levels share once more than there are levels."""

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        outputs = super().forward(features)
        self.convs[0].depthwise(features[0])
        return outputs


def test_a_layer_computed_again_counts_once(runs: Runs, model: EfficientDet) -> None:
    override(model.backbone.stem, TwiceStem)
    override(model.backbone, AgainBackbone)
    override(model.class_head, AgainHead)
    rows = compare(Kept(runs, model.config), model)
    assert failing(rows) == {}
    assert [row.layer for row in rows] == list(layers(model.config))


# --- verdicts ----------------------------------------------------------------------------------------------------


def row(key: str, *errors: tuple[str, float], **faults: str) -> Row:
    checks = {}
    for name, error in errors:
        found = difference(np.ones(1), np.ones(1), 1.0)._replace(error=error)
        checks[name] = Check(found, 1e-3)
    return Row(Layer(key), (1,), checks, faults)


def test_the_first_layer_itself_at_fault_goes_before_one_that_only_drifted() -> None:
    good = row("good", ("float32 local", 1e-3), ("float32 accumulated", 0.0))
    drifted = row("drifted", ("float32 local", 1e-4), ("float32 accumulated", 1e-2))
    source = row("source", ("float32 local", 2e-3), ("float32 accumulated", 1e-2))
    missing = row("missing", ("float32 accumulated", 1e-4), local="not in the reference")
    lost = row("lost", ("float32 local", 1e-4), accumulated="not in the reference")
    assert first_failure([good, drifted, source, missing]) is source
    assert first_failure([good, drifted, missing, source]) is missing
    assert first_failure([good, lost, drifted]) is lost
    assert first_failure([good]) is first_failure([]) is None
    assert [each.is_source for each in (good, drifted, source, missing, lost)] == [False, False, True, True, False]
    assert good.reason == ""
    assert drifted.reason == "float32 accumulated error 1.0e-02, limit 1.0e-03"
    assert missing.reason == "not in the reference"


def test_a_row_holds_only_if_something_was_compared_and_nothing_is_nan() -> None:
    empty = row("empty")
    assert (empty.ok, empty.reason) == (False, "not compared")
    assert not row("nan", ("float64 local", float("nan"))).ok
    assert not row("infinite", ("float64 local", float("inf"))).ok
    found = row("infinite noise", ("float64 local", float("inf"))).checks["float64 local"]
    assert not found._replace(limit=float("inf")).ok


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_float64", [True, False])
@pytest.mark.parametrize("kind", ["local", "accumulated"])
def test_only_the_current_layer_is_in_memory(
    kind: Kind, with_float64: bool, runs: Runs, model: EfficientDet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the reference computes a layer, nothing of the one before is left but what the candidate is to be given."""
    given: list[weakref.ref[np.ndarray]] = []  # the reference's float32
    others: list[weakref.ref[np.ndarray]] = []
    alive = []

    class Fresh(Kept):
        def activations(self, kind: Kind) -> Iterator[Activation]:
            for each in self.runs[kind]:
                alive.extend(reference() for reference in (*others, *given[: -1 if kind == "local" else None]))
                others.clear()
                single, double = each.float32.copy(), each.float64.copy() if with_float64 else None
                given.append(weakref.ref(single))
                others.extend(weakref.ref(array) for array in (double,) if array is not None)
                yield Activation(each.key, single, double)
                del single, double

    def watched(arrays: Sequence[np.ndarray], pairs: Sequence[Pair]) -> list[Gap]:
        others.extend(weakref.ref(array) for array in arrays if array is not given[-1]())
        return measure(arrays, pairs)

    monkeypatch.setattr(checks, "measure", watched)
    rows = list(compare_in_turn(Fresh({kind: runs[kind]}, model.config), precisions(model), kind))
    assert failing(rows) == {}
    assert len(given) == len(rows)
    assert len(alive) > 3 * len(rows)
    assert not any(array is not None for array in alive)
