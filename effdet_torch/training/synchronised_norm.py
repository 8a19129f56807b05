"""Batch norm over the images of all processes, so that N processes train as one with the whole batch would.

Source: google/automl `utils.py: SyncBatchNormalization, TpuBatchNormalization`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..ops import BATCH_NORM_MOMENTUM, BatchNorm, BatchNormActivation
from ..processes import count, summed


class Total(torch.autograd.Function):
    """The sum of a tensor over all processes. Each one's gradient is the sum of all gradients of that sum."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return summed(value)

    @staticmethod
    def backward(context: Any, *outer: Tensor) -> Tensor:
        return summed(outer[0])


def total(value: Tensor) -> Tensor:
    """`value` summed over all processes, differentiable."""
    of_all: Tensor = Total.apply(value)  # type: ignore[no-untyped-call]
    return of_all


class SynchronisedBatchNorm(BatchNorm):
    """A batch norm that trains on the statistics of all processes, each having equally many images.

    PyTorch's own needs a GPU. The variance is taken around the mean of all, which rounds less than the official
    difference of mean square and squared mean.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        processes = count()
        axes, values = (0, 2, 3), x.numel() // x.shape[1] * processes
        mean = total(x.mean(axes)) / processes
        centred = x - mean[:, None, None]
        variance = total((centred * centred).mean(axes)) / processes  # biased
        with torch.no_grad():
            self.running_mean.lerp_(mean, BATCH_NORM_MOMENTUM)
            self.running_var.lerp_(variance * (values / max(1, values - 1)), BATCH_NORM_MOMENTUM)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


class SynchronisedBatchNormActivation(BatchNormActivation, SynchronisedBatchNorm):
    """The same, followed by the activation."""


SYNCHRONISED = {BatchNorm: SynchronisedBatchNorm, BatchNormActivation: SynchronisedBatchNormActivation}


def synchronise_norms(model: nn.Module) -> None:
    """Make every batch norm of `model` a synchronised one, in place: same parameters, same inference."""
    for module in model.modules():
        if type(module) in SYNCHRONISED:
            module.__class__ = SYNCHRONISED[type(module)]
