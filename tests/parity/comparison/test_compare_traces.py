"""Two traces beside each other, layer by layer."""

import numpy as np

from effconv.parity.comparison.compare import compare_traces
from effconv.parity.traces.trace import Activation
from kept_runs import SWISH, Kept, keep_runs
from tiny_models import load_tiny

EXPAND = "backbone.blocks.5.expand"


def test_a_layer_of_two_traces_that_cannot_be_compared_has_a_fault_and_no_figures() -> None:
    runs, model = keep_runs(), load_tiny(SWISH)

    def cut(activation: Activation) -> Activation:
        return activation._replace(float32=activation.float32[:, 1:], float64=activation.float64[:, 1:])

    def infinite(activation: Activation) -> Activation:
        return activation._replace(float32=np.full_like(activation.float32, np.inf))

    reference = Kept(runs, model.config)
    rows = {row.layer.key: row for row in compare_traces(reference, reference, model)}
    assert all(row.ok and row.checks for row in rows.values())
    for edit, reason in ((cut, "shape "), (infinite, "infinity in the candidate")):
        other = Kept(runs, model.config, **{EXPAND: edit})
        for row in compare_traces(reference, other, model):
            if row.layer.key == EXPAND:
                assert row.faults["accumulated"].startswith(reason)
                assert row.checks == {}
            else:
                assert row.ok
