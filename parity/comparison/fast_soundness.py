"""Whether the fast form's float32 is sound, part by part: each on the input it was given, beside itself in float64.

The fast form overwrites what it no longer needs and has other parts than the model, so it is watched from outside: what
goes into a part is kept, and the part is computed again in float64, where none of its fast paths is taken.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...effdet_torch.engines.convolution import FoldedConv2d, GatedProjection
from ...effdet_torch.engines.fast import FastEfficientDet
from ...effdet_torch.engines.fast_ops import FastResample, Gate, InPlaceSumFusion, ScaledFusion
from ..copying import copied
from ..limits import FUNCTION_OPERATIONS, SMALLEST_NORMAL, SUBNORMAL, SWISH_SLOPE, UNITS, mean_factor, products_factor
from .soundness import Soundness

UNIT = UNITS["float32"]
PARTS = (FoldedConv2d, Gate, nn.SiLU, nn.ReLU6, ScaledFusion, InPlaceSumFusion)


def sound_parts(network: FastEfficientDet, images: Tensor) -> list[tuple[str, Soundness]]:
    """(part, soundness of its worst call) of every part of a float32 fast form that computes, on `images` (B, 3, H,
    W)."""
    twins = dict(copied(network).double().named_modules())
    found: dict[str, Soundness] = {}
    given: dict[str, Any] = {}  # inputs of the parts at work; of a resample, what it made on the way
    handles = []

    def before(name: str, inputs: tuple[Any, ...]) -> None:
        given[name] = tuple(_kept(each) for each in inputs)

    def after(name: str, output: Tensor) -> None:
        inputs = given.pop(name)
        exact, bound = _exact_and_bound(twins[name], inputs, given.pop(f"{name} made", None))
        sound = _soundness(output, exact, bound)
        if name not in found or not sound.times_bound <= found[name].times_bound:
            found[name] = sound

    for name, module in network.named_modules():
        inside = ".squeeze_excite." in name
        if inside or not isinstance(module, (*PARTS, FastResample)):
            continue
        handles.append(module.register_forward_pre_hook(lambda _, inputs, name=name: before(name, inputs)))
        if isinstance(module, FastResample):
            handles.append(module.norm.register_forward_hook(lambda *call, name=name: _note(given, name, call[2])))
        handles.append(module.register_forward_hook(lambda _, __, output, name=name: after(name, output)))
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.items())


def _kept(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    return [_kept(each) for each in value] if isinstance(value, list) else value


def _note(given: dict[str, Any], name: str, made: Tensor) -> None:
    given[f"{name} made"] = made.detach().clone()


def _soundness(output: Tensor, exact: Tensor, bound: Tensor) -> Soundness:
    if output.shape != exact.shape or not bool(torch.isfinite(output).all()):
        return Soundness(math.inf, math.inf)
    gap = (output.double() - exact).abs()
    times = torch.where(gap > 0, gap / bound, 0.0)
    scale = float(exact.abs().max())
    return Soundness(float(gap.max()) / scale if scale else 0.0, float(times.max()))


def _exact_and_bound(part: Any, inputs: tuple[Any, ...], made: Tensor | None) -> tuple[Tensor, Tensor]:
    """What a float64 part makes of float32 inputs, and how far float32 may be from that (`limits.py`)."""
    if isinstance(part, FastResample):
        assert made is not None
        exact = part.resize(made.double(), inputs[1])
        return exact, torch.zeros_like(exact)
    if isinstance(part, (ScaledFusion, InPlaceSumFusion)):
        maps = [each.double() for each in inputs[0]]
        magnitudes = torch.stack([each.abs() for each in _scaled(part, maps)]).sum(0)
        return part(maps), UNIT * (len(maps) + 2) * magnitudes + 2 * SUBNORMAL
    given: list[Any] = [None if each is None else each.double() for each in inputs]
    if isinstance(part, Gate):
        return part.forward(given[0]), _gate_bound(part, given[0])
    if isinstance(part, FoldedConv2d):
        return _of_convolution(part, given)
    return _activation(given[0], "swish" if isinstance(part, nn.SiLU) else "relu6", torch.zeros_like(given[0]))


def _of_convolution(part: FoldedConv2d, given: list[Any]) -> tuple[Tensor, Tensor]:
    """Of a convolution with its activation, or of a block's projection with its gate and its skip."""
    plain, magnitudes = copied(part), copied(part)
    plain.activation = magnitudes.activation = None
    for weight in magnitudes.parameters():
        weight.abs_()
    terms = part.weight[0].numel()
    if isinstance(part, GatedProjection):
        terms += 3  # the gate's product, the skip, and the bias beside them
    sums = magnitudes(*(None if each is None else each.abs() for each in given))
    exact = plain(*(None if each is None else each.clone() for each in given))
    off = UNIT * products_factor(terms) * sums + (terms + 2) * SUBNORMAL
    return (exact, off) if part.activation is None else _activation(exact, part.activation, off)


def _activation(x: Tensor, name: str, off: Tensor) -> tuple[Tensor, Tensor]:
    """The activation of `x`, which is off by `off`."""
    if name == "relu6":
        return F.relu6(x), off
    exact = F.silu(x)
    return exact, SWISH_SLOPE * off + UNIT * FUNCTION_OPERATIONS * exact.abs() + SMALLEST_NORMAL * (1 + x.abs())


def _scaled(part: ScaledFusion | InPlaceSumFusion, maps: list[Tensor]) -> Iterator[Tensor]:
    scales = part.scales if isinstance(part, ScaledFusion) else [1.0] * len(maps)
    return (each * scale for each, scale in zip(maps, scales, strict=True))


def _gate_bound(part: Gate, x: Tensor) -> Tensor:
    """The mean's rounding carried through both products and the sigmoid, whose slope is at most a quarter."""
    means = x.mean((2, 3))
    off = UNIT * mean_factor(x.shape[2] * x.shape[3]) * x.abs().mean((2, 3))
    squeezed = part.reduce(means)
    off = SWISH_SLOPE * _product_bound(part.reduce, means.abs(), off)
    active = F.silu(squeezed) if isinstance(part.activation, nn.SiLU) else F.relu6(squeezed)
    off = _product_bound(part.expand, active.abs(), off + UNIT * FUNCTION_OPERATIONS * active.abs())
    gate: Tensor = part.expand(active).sigmoid()
    return off / 4 + UNIT * FUNCTION_OPERATIONS * gate + SMALLEST_NORMAL


def _product_bound(linear: nn.Linear, magnitudes: Tensor, off: Tensor) -> Tensor:
    weight, bias = linear.weight.abs(), linear.bias.abs()
    moved: Tensor = off @ weight.T
    products: Tensor = magnitudes @ weight.T + bias
    return moved + UNIT * products_factor(linear.in_features) * products
