"""What `ops.py` and the model compute, in forms that copy less: the same functions, rounded in another order at most.

Convolutions and poolings here never pad a copy of their input, and what is theirs alone is overwritten in place. All
tensors are (B, C, H, W).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bifpn import Resample, ZeroPaddedResample
from ..ops import resize_nearest, same_max_pool, same_padding

HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
SMALL = 512  # positions in a batch up to which a matrix product is quicker than oneDNN's convolution


class FixedConv2d(nn.Module):
    """A convolution whose SAME padding is the same on both sides for every size: stride 1 and an odd kernel."""

    def __init__(self, weight: Tensor, bias: Tensor | None, groups: int = 1):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.padding = ((weight.shape[2] - 1) // 2, (weight.shape[3] - 1) // 2)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, 1, self.padding, 1, self.groups)


class PointwiseConv2d(FixedConv2d):
    """A 1x1 convolution, which on a CPU in float32 chooses the quicker way by itself.

    `F.conv2d` does not: on one thread it makes a matrix product over a copy, up to twice as slow for large maps, and on
    several threads it takes oneDNN, twice as slow for small ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        known = HAS_ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu"
        if not known or torch.compiler.is_compiling():  # a compiler or exporter chooses for itself
            return F.conv2d(x, self.weight, self.bias)
        if x.numel() < SMALL * x.shape[1]:
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        convolved: Tensor = torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), (1, 1), (1, 1), 1)
        return convolved


class ZeroTapConv2d(nn.Module):
    """`SameConv2d` for any kernel and stride, without a padded copy: (B, C, H, W) -> (B, C', ceil(H/s), ceil(W/s)).

    Where SAME needs one pixel more after than before, the kernel gets a leading row or column of zeros, and symmetric
    padding of the larger amount does the rest: the zeros stand on the pixel too many. Which axes need it depends on the
    input's size, so there are four kernels. (Zero times infinity is NaN: only activations that are not finite differ.)
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], groups: int = 1):
        super().__init__()
        # Indexed by 2 * (a row more) + (a column more).
        self.weights = nn.ParameterList(
            nn.Parameter(F.pad(weight, (column, 0, row, 0)), requires_grad=False) for row in (0, 1) for column in (0, 1)
        )
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.kernel = weight.shape[2], weight.shape[3]
        self.stride = stride
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = same_padding(x.shape[2], self.kernel[0], self.stride[0])
        left, right = same_padding(x.shape[3], self.kernel[1], self.stride[1])
        weight = self.weights[2 * (bottom - top) + right - left]
        return F.conv2d(x, weight, self.bias, self.stride, (bottom, right), 1, self.groups)


def same_max_pool_by_ceiling(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """`same_max_pool` without a padded copy, bit for bit, for kernels larger than their stride.

    Rounding the output size up makes the last window reach one pixel over the edge, which is the pixel that SAME has
    more after than before. Both kinds of padding hold minus infinity.
    """
    if x.shape[2] < kernel[0] or x.shape[3] < kernel[1]:  # other runtimes refuse a window larger than the map
        return same_max_pool(x, kernel, stride)
    padding = same_padding(x.shape[2], kernel[0], stride[0])[0], same_padding(x.shape[3], kernel[1], stride[1])[0]
    return F.max_pool2d(x, kernel, stride, padding, ceil_mode=True)


def upsample_nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`resize_nearest` to the same or a larger size, bit for bit, repeating whole pixels where that is the same.

    It is the same where an axis of n becomes f * n, or 2n - 1: floor(i * n / out) is then i // f. The feature maps of
    neighbouring levels are all like that.
    """
    given = x.shape[2:]
    factors = [-(-out // n) for out, n in zip(size, given, strict=True)]
    for out, n, factor in zip(size, given, factors, strict=True):
        if out != factor * n and (factor, out) != (2, 2 * n - 1):
            return resize_nearest(x, size).contiguous(memory_format=torch.channels_last)
    repeated = F.interpolate(x, (factors[0] * given[0], factors[1] * given[1]), mode="nearest")
    return repeated[:, :, : size[0], : size[1]]


class FastResample(Resample):
    """A Resample whose normalisation is folded into its convolution, and which copies nothing to pool."""

    def pool(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        return same_max_pool_by_ceiling(x, kernel, stride)

    def upsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return upsample_nearest(x, size)


class FastZeroPaddedResample(FastResample):
    """The same of a Resample that pads with zeros."""

    def pool(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        return ZeroPaddedResample.pool(self, x, kernel, stride)  # type: ignore[arg-type]


class ScaledFusion(nn.Module):
    """`WeightedFusion` with constant weights: the sum of x_i * scale_i."""

    def __init__(self, scales: Sequence[float]):
        super().__init__()
        self.scales = tuple(scales)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        fused = maps[0] * self.scales[0]
        for x, scale in zip(maps[1:], self.scales[1:], strict=True):
            fused.add_(x, alpha=scale)
        return fused


class InPlaceSumFusion(nn.Module):
    """`SumFusion` into one new tensor."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        fused = maps[0] + maps[1]
        for x in maps[2:]:
            fused.add_(x)
        return fused


class InPlaceSqueezeExcite(nn.Module):
    """`SqueezeExcite` whose convolutions, of one pixel each, are matrix products; overwrites its input."""

    def __init__(self, reduce: nn.Conv2d, activation: nn.Module, expand: nn.Conv2d):
        super().__init__()
        self.reduce = _linear(reduce)
        self.activation = activation
        self.expand = _linear(expand)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(self.activation(self.reduce(x.mean((2, 3))))).sigmoid_()  # (B, C)
        return x.mul_(gate[:, :, None, None])


def _linear(conv: nn.Conv2d) -> nn.Linear:
    linear = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
    assert conv.bias is not None
    linear.weight = nn.Parameter(conv.weight.detach().flatten(1).clone(), requires_grad=False)
    linear.bias = nn.Parameter(conv.bias.detach().clone(), requires_grad=False)
    return linear


def in_place_activation(name: str) -> nn.Module:
    """`make_activation`, overwriting its input."""
    return {"swish": nn.SiLU, "relu6": nn.ReLU6}[name](inplace=True)
