"""Where TensorFlow computes differently from PyTorch: SAME padding, its max-pool, its batch norm, its nearest resize.

Nothing else in effconv knows about these differences. All tensors are (B, C, H, W).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.01  # TensorFlow writes the complement, 0.99


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """(before, after) padding in pixels along one axis, so that the output has ceil(size / stride) positions.

    An odd total puts the extra pixel after (bottom, right); PyTorch's own symmetric padding cannot express that.
    Source: TensorFlow `core/framework/common_shape_fns.cc: GetWindowedOutputSizeVerbose`, Padding::SAME.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], value: float
) -> tuple[Tensor, tuple[int, int]]:
    """SAME padding for a window of `kernel`: what a symmetric (height, width) padding cannot do is done to `x` here.

    Returns the tensor and the symmetric padding still to be given to the convolution or pooling, whose own padding is
    free where this one copies.
    """
    top, bottom = same_padding(x.shape[2], kernel[0], stride[0])
    left, right = same_padding(x.shape[3], kernel[1], stride[1])
    if top == bottom and left == right:
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


class SameConv2d(nn.Conv2d):
    """`tf.nn.conv2d` and `depthwise_conv2d` with padding SAME: (B, C, H, W) -> (B, C', ceil(H/s), ceil(W/s))."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=bias)
        self._window = (kernel, kernel), (stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        x, padding = pad_same(x, *self._window, value=0.0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def same_max_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """`tf.nn.max_pool2d` with padding SAME: of minus infinity, so that it never wins over negative values.

    For kernels larger than their stride, of at least 2, nothing is copied: rounding the output's size up makes the last
    window reach one pixel over the edge, the one that SAME has more after than before. Both hold minus infinity.
    """
    (top, _), (left, _) = (same_padding(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True))
    rounds_up = kernel[0] > stride[0] > 1 and kernel[1] > stride[1] > 1
    if rounds_up and x.shape[2] >= kernel[0] and x.shape[3] >= kernel[1]:  # others refuse windows beyond the map
        return F.max_pool2d(x, kernel, stride, (top, left), ceil_mode=True)
    x, padding = pad_same(x, kernel, stride, value=-torch.inf)
    return F.max_pool2d(x, kernel, stride, padding)


def resize_nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`tf.compat.v1.image.resize_nearest_neighbor` (no half-pixel centres): source = floor(index * input / output).

    The index is computed exactly, in integers; TensorFlow multiplies by a float32 scale, which gives the same index for
    every pair of feature sizes an EfficientDet has (`tests/effdet_torch/test_ops.py` checks all sizes up to 512).

    Whole pixels are repeated where an axis of n becomes f * n, or 2n - 1: floor(i * n / out) is then i // f. The maps
    of neighbouring levels are all like that.
    """
    given = x.shape[2:]
    factors = [-(-out // n) for out, n in zip(size, given, strict=True)]
    axes = zip(size, given, factors, strict=True)
    if all(out == factor * n or (factor, out) == (2, 2 * n - 1) for out, n, factor in axes):
        repeated = F.interpolate(x, (factors[0] * given[0], factors[1] * given[1]), mode="nearest")
        return repeated[:, :, : size[0], : size[1]]
    rows, columns = (
        torch.arange(out_size, device=x.device) * in_size // out_size
        for out_size, in_size in zip(size, x.shape[2:], strict=True)
    )
    return x.index_select(2, rows).index_select(3, columns)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm with TensorFlow's constants. Keys: weight (gamma), bias (beta), running_mean, running_var."""

    def __init__(self, channels: int):
        super().__init__(channels, BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM)
        # PyTorch needs its batch counter only for a momentum of None; without it the state dict is TensorFlow's.
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        # PyTorch's own would put the counter into every state dict that lacks it, and then call it unexpected.
        nn.Module._load_from_state_dict(self, *arguments, **options)


class OwnedSiLU(nn.SiLU):
    """Swish of a map that nothing else reads: it is overwritten, unless gradients are recorded."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x, inplace=not torch.is_grad_enabled())


class OwnedReLU6(nn.ReLU6):
    """ReLU6 of a map that nothing else reads: it is overwritten, unless gradients are recorded."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x, inplace=not torch.is_grad_enabled())


class BatchNormActivation(BatchNorm):
    """Batch norm, then the model's activation: one module, because the official code names the two as one layer."""

    def __init__(self, channels: int, activation: str):
        super().__init__(channels)
        self.activation = {"swish": OwnedSiLU, "relu6": OwnedReLU6}[activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(super().forward(x))  # type: ignore[no-any-return]


def make_activation(name: str) -> nn.Module:
    """The activation of `Config.activation`: swish is x * sigmoid(x), relu6 is min(max(x, 0), 6)."""
    return {"swish": nn.SiLU, "relu6": nn.ReLU6}[name]()
