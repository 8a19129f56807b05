"""The exponential moving average of weights and batch statistics, whose values are those to evaluate and release.

Source: google/automl `det_model_fn.py: _model_fn` with `utils.get_ema_vars`; `tf.train.ExponentialMovingAverage`.
"""

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averages of every parameter and buffer of `model`, from its values of now on."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the values of `model`. The first steps count for more: decay is (1 + n) / (10 + n) at most."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = model.state_dict()
        torch._foreach_lerp_(list(self.values.values()), [current[name] for name in self.values], 1 - decay)

    def restore(self, values: dict[str, Tensor], updates: int) -> None:
        """Take up earlier averages. Raises KeyError or RuntimeError when they are of another model."""
        for name, value in self.values.items():
            value.copy_(values[name])
        self.updates = updates
