"""Which weights of a network's convolutions its input does not reach, so that no comparison of layers can see them.

A weight multiplies the input under its tap of the kernel. Where all of that is padding or zero, the weight may be
anything: on a map of one pixel, eight of the nine taps of a 3x3 kernel.
"""

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...effdet_torch.model import EfficientDet
from ..copying import copied
from .records import Unexercised

COLOURS = ("red", "green", "blue")
# Of the largest value. Two channels of a grey picture are each rounded where it is divided by 255, less the mean and
# by the deviation, and the fit's own result once more; a difference of one grey level is 2000 times as large.
SAME_PICTURE = 16 * 2.0**-24


def unexercised(model: EfficientDet, images: NDArray[np.float32]) -> tuple[Unexercised, ...]:
    """What of `model`'s convolutions, in the order they are computed, `images` (B, 3, H, W) do not reach.

    Measured in one run: the sum of the input's magnitudes under each tap. It is zero where a change of the weight
    changes no output, and only there.
    """
    parameter = next(model.parameters())
    given: dict[str, Tensor] = {}  # path -> (input channels, taps down, taps across), sums
    modules = {path: module for path, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    handles = [module.register_forward_pre_hook(partial(_watch, given, path)) for path, module in modules.items()]
    try:
        with torch.no_grad():  # not inference mode, whose tensors have no derivatives
            model(torch.from_numpy(images).to(parameter.device, parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
    found = [_same_pictures(images)]
    found += [_unreached(path, modules[path], sums == 0) for path, sums in given.items()]
    return tuple(each for each in found if each)


def in_words(found: Sequence[Unexercised]) -> str:
    """A few words on them; empty where there are none."""
    kernels = [each for each in found if each.weights]
    words = [f"colour channels apart ({each.channels[0]})" for each in found if each.module == "images"]
    if kernels:
        weights = sum(each.weights for each in kernels)
        count = "1 kernel" if len(kernels) == 1 else f"{len(kernels)} kernels"
        words.append(f"{weights} weights of {count}, first {kernels[0].module}.weight")
    return " and ".join(words)


def _watch(given: dict[str, Tensor], path: str, module: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
    """Add what one call of a convolution is given under each tap; a head's are called once per level."""
    sums = _sums(module, inputs[0])
    given[path] = given[path] + sums if path in given else sums


def _sums(module: nn.Conv2d, x: Tensor) -> Tensor:
    """Sum of |input| under each tap, (input channels, kernel height, kernel width).

    It is the derivative, by that weight, of the sum of the outputs for |input|, so padding is the module's own.
    """
    if module.kernel_size == (1, 1) and module.groups == 1:
        return x.abs().sum((0, 2, 3), dtype=torch.float64)[:, None, None]
    twin = copied(module).double()
    twin.weight.requires_grad_()
    with torch.enable_grad():
        total = twin.forward(x.abs().double()).sum()
    (sums,) = torch.autograd.grad(total, twin.weight)
    return sums[:, 0] if module.groups > 1 else sums[0]


def _unreached(path: str, module: nn.Conv2d, unreached: Tensor) -> Unexercised | None:
    """`unreached` is (input channels, kernel height, kernel width)."""
    if not unreached.any():
        return None
    per_tap = 1 if module.groups > 1 else module.out_channels
    taps = [(int(row), int(column)) for row, column in unreached.all(0).nonzero()]
    channels = [int(channel) for (channel,) in unreached.flatten(1).all(1).nonzero()]
    weights = int(unreached.sum()) * per_tap
    return Unexercised(
        module=path, weights=weights, of=module.weight.numel(), taps=tuple(taps), channels=tuple(channels)
    )


def _same_pictures(images: NDArray[np.float32]) -> Unexercised | None:
    """Colours whose values are one another's, scaled and shifted: swapped weights for them, scaled as well, hide."""
    channels = [images[:, channel].astype(np.float64).ravel() for channel in range(images.shape[1])]
    pairs = []
    for first, second in combinations(range(len(channels)), 2):
        if _is_affine(channels[first], channels[second]) or _is_affine(channels[second], channels[first]):
            pairs.append(f"{COLOURS[first]} and {COLOURS[second]}")
    return Unexercised(module="images", of=len(channels), channels=tuple(pairs)) if pairs else None


def _is_affine(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether y = a * x + b, up to the rounding of both."""
    centred, target = x - x.mean(), y - y.mean()
    spread = centred @ centred
    fitted = centred * (centred @ target / spread) if spread else np.zeros_like(x)
    return bool(np.abs(target - fitted).max() <= SAME_PICTURE * np.abs(y).max())
