"""What became of every tensor on its way to another port's names: plain values for a manifest."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...effdet_torch.config import Config, config_to_dict
from ...version import __version__
from ..layout import Array
from .naming import Naming, places
from .tensors import from_port

FOLDED = "a convolution has no bias there: it is taken off the running mean of the norm behind it"
EPSILON = "the norm has another epsilon there, which its running variance makes up for"


def function_note(config: Config, zero_padded_pool: bool) -> str:
    """What the network that reads the weights computes otherwise than the model; "" where it is the same function."""
    if config.zero_padded_pool == zero_padded_pool:
        return ""
    theirs, ours = ("zeros", "minus infinity") if zero_padded_pool else ("minus infinity", "zeros")
    return f"another: max-pooling is padded with {theirs} there, and with {ours} in this model, so results differ"


def port_manifest(
    state: Mapping[str, Array],
    theirs: Mapping[str, Array],
    naming: Naming,
    config: Config,
    file: str,
    source: Mapping[str, Any],
) -> dict[str, Any]:
    """Of a state dict under our names and `theirs`: its model and file, where it is from, and what does not come back.

    `changed` says why of each of our tensors that comes back other than to the bit; what they compute comes back all
    the same, to rounding.
    """
    back = from_port(theirs, naming, config)
    table = places(naming, config)
    changed = {
        place.ours: EPSILON if place.added and not place.folded_bias else FOLDED
        for place in table
        if not np.array_equal(back[place.ours], state[place.ours], equal_nan=True)
    }
    return {
        "effconv": __version__,
        "model": config.name,
        "file": file,
        "names": naming.port,
        "source": dict(source),
        "tensors": len({place.theirs for place in table if not place.lacking}),
        "exact": len(table) - len(changed),
        "changed": changed,
        "added": dict.fromkeys(naming.unused(config), "not used by this model; written as ones"),
        "function": function_note(config, naming.zero_padded_pool) or "the same",
        "note": naming.notice,
        "config": config_to_dict(config),
    }
