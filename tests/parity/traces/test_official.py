"""The official computation as a trace: every layer in order, and each fed what the kind of comparison says."""

import numpy as np
import pytest

from effconv.convert.layers import layers
from effconv.parity.difference import largest, relative_error
from effconv.parity.traces.official import OfficialTrace, official_variables
from effconv.parity.traces.trace import Kind
from kept_runs import IMAGES, SWISH
from tensors import config_of

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def trace() -> OfficialTrace:
    config = config_of(SWISH)
    variables, source = official_variables(SWISH, config)
    return OfficialTrace(config, variables, IMAGES, source)


def errors(trace: OfficialTrace, kind: Kind) -> dict[str, float]:
    """How far float32 is from float64, by layer in the order of computation."""
    found = {}
    for each in trace.activations(kind):
        assert (each.float32.dtype, each.float64.dtype) == (np.float32, np.float64)
        found[each.key] = relative_error(each.float32, each.float64, largest(each.float64))
    return found


def test_every_layer_is_walked_in_both_kinds(trace: OfficialTrace) -> None:
    local, accumulated = errors(trace, "local"), errors(trace, "accumulated")
    assert set(local) == set(accumulated) == {layer.key for layer in layers(trace.config)} == trace.required
    assert list(local) == list(accumulated)
    # Until a layer follows another both are given the same.
    first = next(iter(local))
    assert local[first] == accumulated[first] > 0
    # From there on one layer's rounding stays what it is, and that of all adds up.
    assert max(local.values()) < 2e-6
    assert np.median(list(accumulated.values())) > 1.5 * np.median(list(local.values()))
