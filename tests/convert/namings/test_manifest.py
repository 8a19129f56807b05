"""What a manifest says of tensors that do not come back from another port's names to the bit."""

import numpy as np
import pytest

from effconv.convert.namings.manifest import EPSILON, FOLDED, port_manifest
from effconv.convert.namings.naming import OURS_EPSILON
from effconv.convert.namings.recognition import NAMINGS
from effconv.convert.namings.tensors import to_port
from effconv.convert.rules import rules
from effconv.effdet_torch.config import get_config

CONFIG = get_config("d0")


@pytest.mark.parametrize("port", [name for name, naming in NAMINGS.items() if naming.models(CONFIG)])
def test_every_tensor_that_is_rounded_says_by_what(port: str) -> None:
    """The variance of a norm with another epsilon by that; a mean by the bias that is taken off it, which is then 0."""
    naming = NAMINGS[port]
    random = np.random.default_rng(0)
    state = {
        rule.torch: random.uniform(0.5, 2, rule.layout.torch_shape(rule.shape)).astype(np.float32)
        for rule in rules(CONFIG)
    }
    found = port_manifest(state, to_port(state, naming, CONFIG), naming, CONFIG, "a.pth", {})
    tensors = {"running_var": set[str](), "running_mean": set[str](), "bias": set[str]()}
    for key, reason in found["changed"].items():
        tensors[key.rpartition(".")[2]].add(reason)
    other_epsilon, lacking = naming.epsilon != OURS_EPSILON, any(map(naming.lacks_bias, state))
    assert tensors == {
        "running_var": {EPSILON} if other_epsilon else set(),
        "running_mean": {FOLDED} if lacking else set(),
        "bias": {FOLDED} if lacking else set(),
    }
    assert found["exact"] == len(state) - len(found["changed"])
