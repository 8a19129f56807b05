"""Convolutions of the fast form: norm and activation are part of them, and SAME padding copies nothing.

On a CPU in float32 they call oneDNN with the activation and the residual sum fused, on kernels laid out for it once;
everywhere else (other devices and types, compilers, exporters) PyTorch's own operations, which give the same but for
rounding. All maps are (B, C, H, W) with their channels last.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import same_padding

SMALL = 512  # positions in a batch up to which a matrix product is quicker than oneDNN's convolution
VECTOR = 16  # channels
TRANSPOSED = -1  # the place of a kernel for products
# Of `Config.activation`: oneDNN's name, its constants and its algorithm.
ONEDNN: dict[str | None, tuple[str, list[float], str]] = {
    None: ("none", [], ""),
    "swish": ("swish", [], ""),
    "relu6": ("hardtanh", [0.0, 6.0], ""),
}
HAS_ONEDNN: bool = torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_convolution_pointwise"
)


def by_onednn(x: Tensor) -> bool:
    """Whether oneDNN's own operations compute with `x`: what compiles, exports or traces chooses for itself."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return False  # before the shape is looked at, which would fix it
    return HAS_ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0


def activated(x: Tensor, activation: str | None) -> Tensor:
    """`x` overwritten by its activation."""
    if activation is None:
        return x
    return F.silu(x, inplace=True) if activation == "swish" else F.relu6(x, inplace=True)


class FoldedConv2d(nn.Module):
    """A SAME convolution and its activation: (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride)).

    `weights` has the kernel for every kind of size; see `placed`.
    """

    def __init__(
        self,
        weights: list[Tensor],
        bias: Tensor | None,
        stride: tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: str | None = None,
    ):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight in weights)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.stride, self.groups, self.activation = stride, groups, activation
        self._packed: dict[int, Tensor] = {}

    @property
    def weight(self) -> Tensor:
        """The kernel (C', C / groups, height, width) as it was given."""
        weight: Tensor = self.weights[0]
        return weight

    def placed(self, x: Tensor) -> tuple[int, tuple[int, int]]:
        """(which of `weights`, the symmetric padding of height and width) is SAME for `x`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        place, padding = self.placed(x)
        if not by_onednn(x):
            convolved = F.conv2d(x, self.weights[place], self.bias, self.stride, padding, 1, self.groups)
            return activated(convolved, self.activation)
        weight = self.packed(place, padding, x)
        return fused(x, weight, self.bias, padding, self.stride, self.groups, self.activation)

    def packed(self, place: int, padding: tuple[int, int], x: Tensor) -> Tensor:
        """The kernel in the layout that oneDNN likes for such inputs, made at the first call."""
        if place not in self._packed:
            weight = self.weights[place].detach().contiguous().to_mkldnn()
            self._packed[place] = torch.ops.aten.mkldnn_reorder_conv2d_weight(
                weight, padding, self.stride, (1, 1), self.groups, x.shape
            )
        return self._packed[place]

    def forget(self) -> None:
        """Drop what was derived from the weights, which may be others now."""
        self._packed = {}

    def derived(self) -> list[Tensor]:
        """What was derived from the weights so far."""
        return list(self._packed.values())

    def _apply(self, function: Any, recurse: bool = True) -> "FoldedConv2d":
        self.forget()
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_packed": {}}  # which neither pickle nor deepcopy can copy


def fused(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, int],
    stride: tuple[int, int],
    groups: int,
    activation: str | None,
) -> Tensor:
    """oneDNN's convolution and activation in one."""
    name, constants, algorithm = ONEDNN[activation]
    convolved: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        x, weight, bias, padding, stride, (1, 1), groups, name, constants, algorithm
    )
    return convolved


class FixedConv2d(FoldedConv2d):
    """A convolution whose SAME padding is the same on both sides for every size: stride 1 and an odd kernel."""

    def __init__(self, weight: Tensor, bias: Tensor | None, groups: int = 1, activation: str | None = None):
        super().__init__([weight], bias, (1, 1), groups, activation)
        self.padding = ((weight.shape[2] - 1) // 2, (weight.shape[3] - 1) // 2)

    def placed(self, x: Tensor) -> tuple[int, tuple[int, int]]:
        return 0, self.padding


class ZeroTapConv2d(FoldedConv2d):
    """A convolution of any kernel and stride.

    Where SAME needs one pixel more after than before, the kernel gets a leading row or column of zeros, and symmetric
    padding of the larger amount does the rest: the zeros stand on the pixel too many. Which axes need it depends on the
    input's size, so there are four kernels. (Zero times infinity is NaN: only activations that are not finite differ.)
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        groups: int = 1,
        activation: str | None = None,
    ):
        # Indexed by 2 * (a row more) + (a column more).
        kernels = [F.pad(weight, (column, 0, row, 0)) for row in (0, 1) for column in (0, 1)]
        super().__init__(kernels, bias, stride, groups, activation)
        self.kernel = weight.shape[2], weight.shape[3]

    def placed(self, x: Tensor) -> tuple[int, tuple[int, int]]:
        top, bottom = same_padding(x.shape[2], self.kernel[0], self.stride[0])
        left, right = same_padding(x.shape[3], self.kernel[1], self.stride[1])
        return 2 * (bottom - top) + right - left, (bottom, right)


class FirstConv2d(ZeroTapConv2d):
    """The convolution that images come to, (B, 3, H, W) in memory of any order.

    They are copied anyway, to have their channels last; room for the padding in that copy costs less than zero taps.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not by_onednn(x):
            return super().forward(x.contiguous(memory_format=torch.channels_last))
        vertical, horizontal = (
            same_padding(side, kernel, stride)
            for side, kernel, stride in zip(x.shape[2:], self.kernel, self.stride, strict=True)
        )
        x = padded(x, vertical, horizontal)
        return fused(x, self.packed(0, (0, 0), x), self.bias, (0, 0), self.stride, self.groups, self.activation)


def padded(x: Tensor, vertical: tuple[int, int], horizontal: tuple[int, int]) -> Tensor:
    """A copy of `x` (B, C, H, W), channels last, with so many zeros before and after; borders alone are zeroed."""
    (top, bottom), (left, right) = vertical, horizontal
    batch, channels, height, width = x.shape
    copy = x.new_empty(batch, top + height + bottom, left + width + right, channels).permute(0, 3, 1, 2)
    copy[:, :, top : top + height, left : left + width].copy_(x)
    for dimension, before, after in ((2, top, bottom), (3, left, right)):
        for start, length in ((0, before), (copy.shape[dimension] - after, after)):
            if length:
                copy.narrow(dimension, start, length).zero_()
    return copy


class PointwiseConv2d(FixedConv2d):
    """A 1x1 convolution, a matrix product where maps are small or channels do not fill oneDNN's vectors."""

    def forward(self, x: Tensor) -> Tensor:
        if by_onednn(x) and (x.numel() < SMALL * x.shape[1] or len(self.weight) % VECTOR):
            return activated(_product(x, self.transposed(), self.bias), self.activation)
        return super().forward(x)

    def transposed(self) -> Tensor:
        """The kernel as the right side of a product, (C, C'), made at the first call."""
        if TRANSPOSED not in self._packed:
            self._packed[TRANSPOSED] = self.weight.detach().flatten(1).t().contiguous()
        return self._packed[TRANSPOSED]


class GatedProjection(FixedConv2d):
    """A block's last 1x1 convolution, with squeeze-excite's gate before it and the block's skip after it.

    The gate multiplies the kernel where there is one image, which leaves the map, the largest of the block, alone.
    """

    def forward(self, x: Tensor, gate: Tensor | None = None, skip: Tensor | None = None) -> Tensor:
        """`x` (B, C, H, W), which may be overwritten; `gate` (B, C); `skip` (B, C', H, W)."""
        weight, ours = self.weight, by_onednn(x)
        if gate is not None and ours and len(x) == 1:
            weight = weight * gate[:, :, None, None]
        elif gate is not None:
            x = x.mul_(gate[:, :, None, None])
        if not ours or x.numel() < SMALL * x.shape[1]:
            projected = _product(x, weight.flatten(1).t(), self.bias) if ours else F.conv2d(x, weight, self.bias)
            return projected if skip is None else projected.add_(skip)
        if weight is self.weight:
            weight = self.packed(0, self.padding, x)
        if skip is None:
            return fused(x, weight, self.bias, self.padding, self.stride, self.groups, None)
        summed: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            x, skip, weight, self.bias, (0, 0), (1, 1), (1, 1), 1, "add", 1.0, None, [], None
        )
        return summed


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution as a product of matrices, `weight` (C, C')."""
    batch, channels, height, width = x.shape
    positions = x.permute(0, 2, 3, 1).reshape(-1, channels)
    products = positions @ weight if bias is None else torch.addmm(bias, positions, weight)
    return products.view(batch, height, width, -1).permute(0, 3, 1, 2)
