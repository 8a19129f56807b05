"""Fault injection: every planted fault is detected, and the layer named first is the one where it was planted."""

from pathlib import Path

import pytest

from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison.explain import first_difference
from effconv.parity.copying import copied
from effconv.parity.mistakes.network import CHANGES, changed
from effconv.parity.traces.candidate_trace import CandidateTrace
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import OfficialTrace, official_variables
from effconv.parity.traces.recording import RecordedTrace, record
from faults import IMAGE_SIZES, Fault, faults
from tiny_models import load_tiny

GOLDEN = Path(__file__).parents[2] / "golden"
MODELS = ("tiny-swish", "tiny-sum8")
CONFIGS = {name: get_config(str(GOLDEN / name / "config.json")) for name in MODELS}
FAULTS = {(name, fault.name): fault for name in MODELS for fault in faults(CONFIGS[name])}

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RecordedTrace]:
    """TensorFlow's run of each model, recorded once with its float64."""
    found = {}
    for name, config in CONFIGS.items():
        variables, source = official_variables(GOLDEN / name, config)
        trace = OfficialTrace(config, variables, noise(0, IMAGE_SIZES[config.max_level]), source)
        path = tmp_path_factory.mktemp("traces") / f"{name}.npz"
        record(trace, path, with_float64=True)
        found[name] = RecordedTrace(path)
    return found


@pytest.fixture(scope="module")
def clean() -> dict[str, EfficientDet]:
    return {name: load_tiny(GOLDEN / name) for name in MODELS}


def planted(model: EfficientDet, fault: Fault) -> EfficientDet:
    faulty = copied(model)
    fault.plant(faulty)
    return faulty


def test_there_are_enough_distinct_faults() -> None:
    for name in MODELS:
        assert len(faults(CONFIGS[name])) >= 60


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_a_planted_fault_is_found_where_it_was_planted(
    name: str, fault: str, traces: dict[str, RecordedTrace], clean: dict[str, EfficientDet]
) -> None:
    expected = FAULTS[name, fault]
    named = first_difference(traces[name], planted(clean[name], expected))
    print(f"{name}: {fault}: detected: {named is not None}, named: {named}, explained as: {expected.explained_as}")
    assert named == expected.layer


@pytest.mark.parametrize(("name", "fault"), [key for key in FAULTS if FAULTS[key].explained_as])
def test_a_known_mistake_explains_its_fault(
    name: str, fault: str, traces: dict[str, RecordedTrace], clean: dict[str, EfficientDet]
) -> None:
    """Made to the clean model, the change computes what the faulty candidate does, to the last bit."""
    expected = FAULTS[name, fault]
    faulty = planted(clean[name], expected)
    explanation = changed(clean[name], CHANGES[expected.explained_as or ""])
    assert first_difference(CandidateTrace(explanation, traces[name].images, {}), faulty) is None
