"""The bound of a layer that is computed in parts is that of the whole layer."""

import numpy as np
import pytest
from torch import Tensor

from effconv.convert.layers import layers
from effconv.effdet_torch.backbone import MBConv
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison import bounds as bounds_module
from effconv.parity.comparison.bounds import Bounds
from effconv.parity.mistakes.network import CHANGES, changed
from effconv.parity.traces.candidate import Lockstep
from kept_runs import IMAGES, SWISH
from tiny_models import load_tiny


def all_bounds(model: EfficientDet, precision: str) -> dict[str, Tensor]:
    table = layers(model.config)
    modules = {layer.key: layer.module for layer in table}
    watched = Bounds(model, table, precision)
    kept = {key: watched.take(modules[key]) for key, _ in Lockstep(model, IMAGES, table).steps()}
    watched.close()
    return kept


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", [None, "batch-statistics", "no-same-conv"])
def test_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch, precision: str, change: str | None) -> None:
    """A layer whose parts need more of the input than their own pixels or channels is not cut."""
    model = load_tiny(SWISH).double()
    if change:
        model = changed(model, CHANGES[change])
    whole = all_bounds(model, precision)
    monkeypatch.setattr(bounds_module, "PART", 500)
    parts = all_bounds(model, precision)
    assert max(bound.numel() for bound in whole.values()) > 20 * 500
    for key, bound in whole.items():
        assert parts[key].equal(bound), key


def test_no_bound_is_rounded_below_what_theory_allows() -> None:
    """A residual sum is rounded once, by half a unit in the last place: the bound in float32 is that, hardly more."""
    model = load_tiny(SWISH).double()
    table = layers(model.config)
    modules = {layer.key: layer.module for layer in table}
    watched = Bounds(model, table)
    sums = 0
    for key, output in Lockstep(model, IMAGES, table).steps():
        bound = watched.take(modules[key]).permute(0, 2, 3, 1).double().numpy()
        block = model.get_submodule(modules[key])
        if isinstance(block, MBConv) and block.has_skip:
            assert output is not None
            exact = 2.0**-24 * np.abs(output)
            assert (bound >= exact).all()
            assert (bound <= exact * (1 + 2.0**-19)).all()
            sums += 1
    watched.close()
    assert sums > 0
