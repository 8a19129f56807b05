"""Stochastic depth: in training, the inner part of a residual block is left out for some images.

Paper: Deep Networks with Stochastic Depth (Huang et al., 2016). Source: google/automl `utils.py: drop_connect`,
`backbone/efficientnet_model.py: Model.call`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import MBConv
from ..config import Config, ConfigError
from ..model import EfficientDet

SURVIVAL = 0.8  # of the last block, which all official backbones but b0 have


def official_survival(config: Config) -> float | None:
    """The survival probability the official configuration gives a model's backbone; None for b0's, which keeps all."""
    return None if "b0" in config.backbone else SURVIVAL


def drop_blocks(model: EfficientDet, survival: float, generator: torch.Generator) -> None:
    """Give the blocks of `model`'s backbone stochastic depth, from outside; without effect in eval mode.

    Block i of n survives with the probability 1 - (1 - survival) * i / n, drawn from `generator` for each image. What
    survives is divided by it, so nothing is to be done at inference.
    """
    blocks = model.backbone.blocks
    for index, block in enumerate(blocks):
        assert isinstance(block, MBConv)
        probability = 1.0 - (1.0 - survival) * index / len(blocks)
        if block.has_skip and probability < 1:
            block.project_norm.register_forward_hook(_Drop(probability, generator))


def drop_repeats(model: EfficientDet, survival: float, generator: torch.Generator) -> None:
    """Give the repeats of both heads stochastic depth, all but the first; without effect in eval mode.

    Source: `tf2/efficientdet_keras.py: ClassNet, BoxNet` with `survival_prob`. Raises ConfigError for heads without
    residual connections (`Config.residual_heads`), which cannot do without a repeat.
    """
    if not model.config.residual_heads:
        raise ConfigError(f"{model.config.name} has no residual heads, so no repeat can be left out")
    for head in (model.class_head, model.box_head):
        for norms in head.norms[1:]:
            for norm in norms.values():  # type: ignore[operator]
                norm.register_forward_hook(_Drop(survival, generator))


class _Drop:
    def __init__(self, probability: float, generator: torch.Generator):
        self.probability, self.generator = probability, generator

    def __call__(self, module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        if not module.training:
            return output
        # Drawn on the CPU, so that a seed means the same on every device.
        draws = torch.rand((len(output), 1, 1, 1), generator=self.generator)
        kept = torch.floor(self.probability + draws).to(output)
        return output / self.probability * kept
