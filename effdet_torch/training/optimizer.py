"""One optimisation step as the official code takes it: weight decay in the loss, two clips, SGD with momentum.

Source: google/automl `det_model_fn.py: reg_l2_loss, _model_fn`; the momentum is that of `tf.train.MomentumOptimizer`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

KERNEL_DIMENSIONS = 4  # a convolution's kernel; biases, norms and fusion weights have fewer


class StepNorms(NamedTuple):
    """Global norms of a step's gradients, weight decay included: () each, before and after clipping."""

    found: Tensor
    clipped: Tensor


def decayed_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) of all that weight decay concerns: trained kernels, not biases, norms or fusion weights.

    These are the variables whose official names end in `kernel` (also `depthwise_kernel`, `pointwise_kernel`).
    """
    return [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if parameter.ndim == KERNEL_DIMENSIONS and parameter.requires_grad
    ]


class Optimizer:
    """SGD with momentum for the parameters of `model` that require gradients when it is made.

    `weight_decay` is of the loss weight_decay * sum(w**2) / 2 over kernels, so it takes part in clipping. First each
    gradient is scaled to a norm of `clip_norm` at most, then all together. Momentum gathers gradients, and the rate of
    the moment multiplies what it gathered: Keras's own SGD differs where the rate changes.
    """

    def __init__(self, model: nn.Module, *, momentum: float, weight_decay: float, clip_norm: float):
        self.names, self.parameters = zip(
            *((name, each) for name, each in model.named_parameters() if each.requires_grad), strict=True
        )
        self.kernels: list[Tensor] = [parameter for _, parameter in decayed_parameters(model)]
        self.weight_decay, self.clip_norm = weight_decay, clip_norm
        self.sgd = torch.optim.SGD(self.parameters, lr=0.0, momentum=momentum, foreach=True)

    def decay_loss(self) -> Tensor:
        """() of weight_decay * sum(w**2) / 2 as the weights are now."""
        squares = torch.stack(torch._foreach_norm(self.kernels)) ** 2
        return 0.5 * self.weight_decay * squares.sum().detach()

    @torch.no_grad()
    def step(self, rate: float) -> StepNorms:
        """Update every parameter from its gradient, and forget the gradients. A missing gradient counts as zeros.

        Where the norm found is not finite, nothing is updated and the gradients are left as they are.
        """
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        torch._foreach_add_([_gradient(each) for each in self.kernels], self.kernels, alpha=self.weight_decay)
        norms = clip_([_gradient(each) for each in self.parameters], self.clip_norm)
        if not norms.found.isfinite():
            return norms
        for group in self.sgd.param_groups:
            group["lr"] = rate
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)
        return norms

    def not_finite(self) -> list[str]:
        """Names of the parameters whose gradients are not finite, nearest the outputs first."""
        pairs = zip(self.names, self.parameters, strict=True)
        return [name for name, each in pairs if each.grad is not None and not each.grad.isfinite().all()][::-1]

    def forget(self) -> None:
        """Leave out gradients that no step was taken with."""
        self.sgd.zero_grad(set_to_none=True)

    def momenta(self) -> dict[str, Tensor]:
        """{parameter name: momentum}, zeros before the first step."""
        state = self.sgd.state
        return {
            name: state[each]["momentum_buffer"] if each in state else torch.zeros_like(each)
            for name, each in zip(self.names, self.parameters, strict=True)
        }

    def restore(self, momenta: dict[str, Tensor]) -> None:
        """Take up what `momenta` gave. Raises KeyError or ValueError when it is of other parameters."""
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if momenta[name].shape != parameter.shape:
                raise ValueError(f"momentum of {name}: {tuple(momenta[name].shape)}, expected {tuple(parameter.shape)}")
            self.sgd.state[parameter]["momentum_buffer"] = momenta[name].to(parameter.device).clone()


def clip_(gradients: list[Tensor], limit: float) -> StepNorms:
    """Scale each gradient to a norm of `limit` at most, then all of them to a norm of `limit` together; in place.

    Where their norm is not finite, none is scaled.
    """
    norms = torch.stack(torch._foreach_norm(gradients))
    found = norms.norm()
    if not found.isfinite():
        return StepNorms(found, found)
    each = limit / norms.clamp(min=limit)
    together = (norms * each).norm()
    factor = limit / together.clamp(min=limit)
    torch._foreach_mul_(gradients, (each * factor).unbind())
    return StepNorms(found, together * factor)


def freeze(parameters: Iterable[nn.Parameter]) -> None:
    """Leave parameters as they are: they get no gradient, no weight decay and no momentum."""
    for parameter in parameters:
        parameter.requires_grad_(False)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
