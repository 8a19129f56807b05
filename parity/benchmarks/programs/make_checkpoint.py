"""Write a checkpoint of the released kind with random weights: MODEL PREFIX SEED.

They are scaled so that activations stay near one through any depth: a figure of memory or time does not depend on the
weights, but infinities would end a comparison early. A program of its own, so that its memory does not count as ours.
"""

import sys
from pathlib import Path

import numpy as np

from ....convert.conversion import write_checkpoint
from ....convert.rules import Rule, rules
from ....effdet_torch.config import get_config


def random_value(rule: Rule, random: np.random.Generator) -> np.ndarray:
    """A value for a rule's tensor, in PyTorch's layout, float32."""
    shape = rule.layout.torch_shape(rule.shape)
    if rule.tf.endswith(("gamma", "moving_variance")):
        return random.uniform(0.8, 1.2, shape).astype(np.float32)
    spread = np.sqrt(np.prod(shape[1:])) if "kernel" in rule.tf else 10
    return np.asarray(random.standard_normal(shape) / spread, np.float32)


def main(model: str, prefix: str, seed: str) -> None:
    """Raw weights and moving averages are the same."""
    config, random = get_config(model), np.random.default_rng(int(seed))
    state = {rule.torch: random_value(rule, random) for rule in rules(config)}
    write_checkpoint(state, state, config, Path(prefix), "random values")


if __name__ == "__main__":
    main(*sys.argv[1:])
