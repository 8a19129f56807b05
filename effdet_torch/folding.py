"""Batch norms folded into the convolutions before them, and SAME padding into their kernels: the same function, faster.

In eval mode a norm is a scale and a shift of each channel, so the convolution before it can do both. Folded in float64
and rounded once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ops import BatchNorm, SameConv2d, pad_same


def folded(weight: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """(weight, bias) of a convolution that does what one of `weight` (O, I, k, k) and `bias`, then `norm`, does.

    Where `norm` is no batch norm the two are as given, a missing bias being zeros.
    """
    if not isinstance(norm, BatchNorm):
        return weight.detach().clone(), (weight.new_zeros(len(weight)) if bias is None else bias.detach().clone())
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gamma, beta, mean, variance = (
        each.detach().double() for each in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    scale = gamma / torch.sqrt(variance + norm.eps)
    shift = beta + ((0 if bias is None else bias.detach().double()) - mean) * scale
    return (weight.detach().double() * scale[:, None, None, None]).to(weight.dtype), shift.to(weight.dtype)


class Convolution(nn.Module):
    """A SAME convolution with bias, (B, C, H, W) -> (B, C', ceil(H/s), ceil(W/s)), that pads no copy of its input.

    On an even size SAME padding of a stride-2 convolution has one pixel more after than before. A kernel with a row of
    zeros put before its first does the same with as many pixels on both sides; so there is one kernel for every pair of
    an even or odd height and width. (Zero times infinity is NaN: only finite inputs are equal.)
    """

    def __init__(self, convolution: SameConv2d, norm: nn.Module):
        super().__init__()
        weight, bias = folded(convolution.weight, convolution.bias, norm)
        self.stride, self.groups = convolution.stride[0], convolution.groups
        self.padding = (convolution.kernel_size[0] - 1) // 2
        self.bias = nn.Parameter(bias, requires_grad=False)
        taps = (0, 1) if self.stride == 2 else (0,)
        self.kernels = nn.ParameterList(
            nn.Parameter(_channels_last(F.pad(weight, (left, 0, top, 0))), requires_grad=False)
            for top in taps
            for left in taps
        )

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernels[0]
        if self.stride == 2:
            kernel = self.kernels[2 * (1 - x.shape[2] % 2) + 1 - x.shape[3] % 2]
        return F.conv2d(x, kernel, self.bias, self.stride, self.padding, 1, self.groups)


class Pointwise(nn.Module):
    """A 1x1 convolution with bias, (B, C, H, W) -> (B, C', H, W): a product of matrices where channels come last."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight.flatten(1).contiguous(), requires_grad=False)  # (C', C)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)

    def gated(self, x: Tensor, gate: Tensor) -> Tensor:
        """The convolution of x times `gate` (B, C): the gate goes into the weights, which are smaller than x."""
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        made = torch.baddbmm(self.bias, rows, (self.weight * gate[:, None]).transpose(1, 2))
        return made.view(batch, height, width, -1).permute(0, 3, 1, 2)


def max_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """`ops.same_max_pool`, bit for bit, without a padded copy where the window is 3 and the stride 2."""
    if kernel == (3, 3) and stride == (2, 2) and min(x.shape[2:]) >= 3:  # a window on less is refused by some runtimes
        # An odd side is padded by one on both ends, an even one by one after: there `ceil_mode` makes the last window
        # reach over the end.
        return F.max_pool2d(x, 3, 2, (x.shape[2] % 2, x.shape[3] % 2), ceil_mode=True)
    x, padding = pad_same(x, kernel, stride, value=-torch.inf)
    return F.max_pool2d(x, kernel, stride, padding)


def _channels_last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)
