"""An EfficientDet in a form that runs faster and computes the same: for inference only.

Every batch norm becomes part of the convolution before it (with it go the official model's redundant biases), feature
maps lie with their channels last, and SAME padding copies nothing (`fast_ops.py`). The wiring is the model's own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...errors import EffconvError
from ..backbone import MBConv, SqueezeExcite, Stem
from ..bifpn import FusionNode, Resample, SeparableConv, SumFusion, WeightedFusion, ZeroPaddedResample
from ..heads import Head
from ..model import EfficientDet
from ..training.synchronised_norm import SYNCHRONISED
from .fast_ops import (
    FastResample,
    FastZeroPaddedResample,
    FixedConv2d,
    InPlaceSqueezeExcite,
    InPlaceSumFusion,
    PointwiseConv2d,
    ScaledFusion,
    ZeroTapConv2d,
    in_place_activation,
)


class FastFormError(EffconvError):
    """A model without a fast form, or a use that the fast form is not for."""


def fast(model: EfficientDet) -> "FastEfficientDet":
    """`model` as it is in eval mode, in a form that runs faster: same call, same results within float32's noise.

    The weights are copied, folded in float64 and rounded once to the model's own type; `model` stays as it was. What
    is done to it afterwards, training included, does not reach the fast form. Hooks are not taken over.

    Raises FastFormError for a model with parts exchanged (as `effconv ablate` does), which cannot be folded unseen.
    """
    return FastEfficientDet(model)


class FastEfficientDet(EfficientDet):
    """What `fast` makes: called as an EfficientDet is, for images of any size. It records no gradients."""

    def __init__(self, model: EfficientDet):
        with torch.device("meta"):
            super().__init__(model.config)
        _require_plain(model, self)
        # Listed first, because parts are exchanged on the way; both lists are in the same order.
        for mine, given in zip(list(self.modules()), list(model.modules()), strict=True):
            for kind, parts in FAST_PARTS.items():
                if isinstance(given, kind):
                    for name, part in parts(given, partial(in_place_activation, model.config.activation)).items():
                        mine.add_module(name, part)
            if isinstance(mine, Resample):
                zeros = isinstance(mine, ZeroPaddedResample)
                mine.__class__ = FastZeroPaddedResample if zeros else FastResample
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if images.ndim == 4:  # what is not is refused by the model
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():  # activations are overwritten, so there would be none to derive
            return super().forward(images)

    def train(self, mode: bool = True) -> "FastEfficientDet":
        """Stay in eval mode. Raises FastFormError when asked to train."""
        if mode:
            raise FastFormError(
                "the fast form of a model has no batch norms left to train: train the model it was made from"
            )
        return super().train(False)


def _require_plain(model: EfficientDet, plain: nn.Module) -> None:
    """Every part of `model` must be of the type that folding knows, which `plain`, built anew, consists of."""
    expected: dict[str, type] = {name: type(part) for name, part in plain.named_modules()} | {"": EfficientDet}
    found: dict[str, type] = {name: type(part) for name, part in model.named_modules()}
    for name in sorted(expected.keys() | found.keys()):
        kind, other = expected.get(name), found.get(name)
        if other is None or kind is None or other not in (kind, SYNCHRONISED.get(kind)):
            what = f"is of type {other.__name__}" if other else "is missing"
            raise FastFormError(
                f"{name or 'the model'} {what}, where {model.config.name} has {kind.__name__ if kind else 'nothing'}: "
                f"only the plain model has a fast form; run this one as it is"
            )


def _folded(conv: nn.Conv2d, norm: Any = None) -> nn.Module:
    """`norm(conv(x))`, without the norm's activation, as one SAME convolution, rounded once."""
    weight, bias = conv.weight.detach().double(), None if conv.bias is None else conv.bias.detach().double()
    if norm is not None:
        scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = weight * scale[:, None, None, None]
        bias = norm.bias.detach().double() + ((0 if bias is None else bias) - norm.running_mean.double()) * scale
    weight = weight.to(conv.weight.dtype, copy=True)
    bias = None if bias is None else bias.to(conv.weight.dtype, copy=True)
    if conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1:
        return PointwiseConv2d(weight, bias)
    if conv.stride == (1, 1) and all(side % 2 for side in conv.kernel_size):
        return FixedConv2d(weight, bias, conv.groups)
    return ZeroTapConv2d(weight, bias, (conv.stride[0], conv.stride[1]), conv.groups)


Activation = Callable[[], nn.Module]
Parts = dict[str, nn.Module]


def _stem(given: Stem, activation: Activation) -> Parts:
    return {"conv": _folded(given.conv, given.norm), "norm": activation()}


def _block(given: MBConv, activation: Activation) -> Parts:
    parts = {
        "depthwise": _folded(given.depthwise, given.depthwise_norm),
        "depthwise_norm": activation(),
        "project": _folded(given.project, given.project_norm),
        "project_norm": nn.Identity(),
    }
    if isinstance(given.expand, nn.Conv2d):
        parts |= {"expand": _folded(given.expand, given.expand_norm), "expand_norm": activation()}
    gate = given.squeeze_excite
    if isinstance(gate, SqueezeExcite):
        parts["squeeze_excite"] = InPlaceSqueezeExcite(gate.reduce, activation(), gate.expand)
    return parts


def _resample(given: Resample, activation: Activation) -> Parts:
    if not isinstance(given.conv, nn.Conv2d):
        return {}
    return {"conv": _folded(given.conv, given.norm), "norm": nn.Identity()}


def _node(given: FusionNode, activation: Activation) -> Parts:
    return {
        "fuse": _fusion(given.fuse),
        "activation": activation(),
        "conv": nn.Sequential(_folded(given.conv.depthwise), _folded(given.conv.pointwise, given.norm)),
        "norm": nn.Identity(),
    }


def _fusion(given: WeightedFusion | SumFusion) -> nn.Module:
    if isinstance(given, SumFusion):
        return InPlaceSumFusion()
    weights = [given.rectify(weight.detach().double()) for weight in given.edge_weights]
    total = given.total(weights)
    return ScaledFusion([float(weight / total) for weight in weights])


def _head(given: Head, activation: Activation) -> Parts:
    """Depthwise kernels stay shared by all levels; each level has a pointwise one with its own norm in it."""
    convs = cast("list[SeparableConv]", list(given.convs))
    norms = cast("list[nn.ModuleDict]", list(given.norms))
    return {
        "convs": nn.ModuleList(_folded(conv.depthwise) for conv in convs),
        "norms": nn.ModuleList(
            nn.ModuleDict(
                {level: nn.Sequential(_folded(conv.pointwise, norm), activation()) for level, norm in per_level.items()}
            )
            for conv, per_level in zip(convs, norms, strict=True)
        ),
        "predict": nn.Sequential(_folded(given.predict.depthwise), _folded(given.predict.pointwise)),
    }


# What takes the places of a module's parts; everything else computes as it did.
FAST_PARTS: dict[type[nn.Module], Callable[[Any, Activation], Parts]] = {
    Stem: _stem,
    MBConv: _block,
    Resample: _resample,
    FusionNode: _node,
    Head: _head,
}
