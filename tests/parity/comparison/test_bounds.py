"""The bound of a layer that is computed in parts is that of the whole layer."""

import pytest
from torch import Tensor

from effconv.convert.layers import layers
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
