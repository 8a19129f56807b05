"""What `ops.py` and the model compute, in forms that copy less: the same functions, rounded in another order at most.

What is theirs alone is overwritten in place. All tensors are (B, C, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..backbone import EfficientNet, MBConv
from ..bifpn import Resample, ZeroPaddedResample
from ..ops import resize_nearest
from .convolution import by_onednn

PIXELS_AT_ONCE = 512 * 512  # of images: what a backbone makes of more does not stay in a processor's cache


class FastResample(Resample):
    """A Resample whose normalisation is folded into its convolution."""

    def upsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        resized = resize_nearest(x, size)
        return resized if resized.stride(1) == 1 else resized.contiguous(memory_format=torch.channels_last)


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


class Gate(nn.Module):
    """What `SqueezeExcite` scales channels by, (B, C, H, W) -> (B, C); its convolutions are products of matrices."""

    def __init__(self, reduce: nn.Conv2d, activation: nn.Module, expand: nn.Conv2d):
        super().__init__()
        self.reduce = _linear(reduce)
        self.activation = activation
        self.expand = _linear(expand)

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.activation(self.reduce(x.mean((2, 3))))).sigmoid_()  # type: ignore[no-any-return]


class FastMBConv(MBConv):
    """An MBConv whose parts are folded: gate, projection and skip are one convolution (`GatedProjection`)."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.depthwise(self.expand(x))
        gate = self.squeeze_excite(hidden) if isinstance(self.squeeze_excite, Gate) else None
        return self.project(hidden, gate, x if self.has_skip else None)  # type: ignore[no-any-return]


class FastEfficientNet(EfficientNet):
    """An EfficientNet that takes a few images at once where more of them would not stay in the processor's cache."""

    def forward(self, images: Tensor) -> list[Tensor]:
        if not by_onednn(images):
            return super().forward(images)
        at_once = max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
        parts = [super(FastEfficientNet, self).forward(part) for part in torch.split(images, at_once)]
        return parts[0] if len(parts) == 1 else [torch.cat(levels) for levels in zip(*parts, strict=True)]


def _linear(conv: nn.Conv2d) -> nn.Linear:
    linear = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
    assert conv.bias is not None
    linear.weight = nn.Parameter(conv.weight.detach().flatten(1).clone(), requires_grad=False)
    linear.bias = nn.Parameter(conv.bias.detach().clone(), requires_grad=False)
    return linear


def in_place_activation(name: str) -> nn.Module:
    """`make_activation`, overwriting its input."""
    return {"swish": nn.SiLU, "relu6": nn.ReLU6}[name](inplace=True)
