"""An EfficientDet in a form that runs faster and computes the same: for inference only.

Every batch norm and most activations become part of the convolution before them (with them go the official model's
redundant biases), feature maps lie with their channels last, and SAME padding copies nothing (`convolution.py`,
`fast_ops.py`). The wiring is the model's own.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...errors import EffconvError
from ..backbone import EfficientNet, MBConv, SqueezeExcite, Stem
from ..bifpn import FusionNode, Resample, SeparableConv, SumFusion, WeightedFusion, ZeroPaddedResample
from ..heads import Head
from ..model import EfficientDet
from ..training.synchronised_norm import SYNCHRONISED
from .convolution import (
    FirstConv2d,
    FixedConv2d,
    FoldedConv2d,
    GatedProjection,
    PointwiseConv2d,
    ZeroTapConv2d,
    by_onednn,
)
from .fast_ops import (
    FastEfficientNet,
    FastMBConv,
    FastResample,
    FastZeroPaddedResample,
    Gate,
    InPlaceSumFusion,
    ScaledFusion,
    in_place_activation,
)
from .replay import Outputs, Replays, is_watched


class FastFormError(EffconvError):
    """A model without a fast form, or a use that the fast form is not for."""


def fast(model: EfficientDet) -> "FastEfficientDet":
    """`model` as it is in eval mode, in a form that runs faster: same call, same results within float32's noise.

    The weights are copied, folded in float64 and rounded once to the model's own type; `model` stays as it was. What
    is done to it afterwards, training included, does not reach the fast form. Hooks are not taken over. Weights and
    parts of the fast form may be changed, but not by `.data`, which nothing can see.

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
                    for name, part in parts(given, model.config.activation).items():
                        mine.add_module(name, part)
            mine.__class__ = FAST_CLASSES.get(type(mine), type(mine))
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()
        self._forget()

    def forward(self, images: Tensor) -> Outputs:
        with torch.no_grad():  # activations are overwritten, so there would be none to derive
            if self._is_changed():
                self._forget()
            if not by_onednn(images) or is_watched(self._parts):
                return super().forward(images)
            return self._replays(images, super().forward, self._constants)

    def _is_changed(self) -> bool:
        """Whether a part or a weight is another, or was written to, since what was derived from them."""
        return any(own.get(name) is not each for own, name, each in self._places) or (
            self._versions != [each._version for each in self._weights]
        )

    def _forget(self) -> None:
        """Drop what was derived from the weights, which may be others now."""
        self._parts = list(self.modules())[1:]  # without itself, which would then never be freed
        for part in self._parts:
            if isinstance(part, FoldedConv2d):
                part.forget()
        self._weights = [each for each in self.parameters() if not each.is_inference()]
        self._versions = [each._version for each in self._weights]
        # Where each part and weight is kept, and which it is.
        self._places = [
            (own, name, each)
            for part in self.modules()
            for own in (part._modules, part._parameters)
            for name, each in own.items()
        ]
        self._replays = Replays()

    def _constants(self) -> list[Tensor]:
        derived = [each for part in self._parts if isinstance(part, FoldedConv2d) for each in part.derived()]
        return [*self.parameters(), *derived]

    def _apply(self, function: Any, recurse: bool = True) -> "FastEfficientDet":
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        self._forget()
        return self

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        """As any module's; what was derived from the weights before is derived again."""
        found = super().load_state_dict(*arguments, **options)
        self._forget()
        return found

    def __getstate__(self) -> dict[str, Any]:
        derived = "_parts", "_weights", "_versions", "_places", "_replays"
        return {key: value for key, value in self.__dict__.items() if key not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._forget()

    def train(self, mode: bool = True) -> "FastEfficientDet":
        """Stay in eval mode. Raises FastFormError when asked to train."""
        if mode:
            raise FastFormError(
                "the fast form of a model has no batch norms left to train: train the model it was made from"
            )
        return super().train(False)


def _require_plain(model: EfficientDet, plain: nn.Module) -> None:
    """Every part of `model` must be of the type, and set as, folding knows it: as in `plain`, built anew.

    How a convolution or a norm is set is folded with it, and may be anything.
    """
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
    for (name, part), of_plain in zip(model.named_modules(), plain.modules(), strict=True):
        changed = [key for key, value in _settings(of_plain).items() if _settings(part).get(key) != value]
        if changed:
            raise FastFormError(
                f"{name}.{changed[0]} is {getattr(part, changed[0], None)}, where {model.config.name} has "
                f"{getattr(of_plain, changed[0])}: only the plain model has a fast form; run this one as it is"
            )


def _settings(part: nn.Module) -> dict[str, object]:
    if isinstance(part, (nn.Conv2d, nn.BatchNorm2d)):
        return {}
    simple = {key: value for key, value in vars(part).items() if isinstance(value, (bool, int, float, str, tuple))}
    return {key: value for key, value in simple.items() if key != "training" and not key.startswith("_")}


def _folded(conv: nn.Conv2d, norm: Any = None, activation: str | None = None) -> FoldedConv2d:
    """`activation(norm(conv(x)))` as one SAME convolution."""
    weight, bias = _kernel(conv, norm)
    if conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1:
        return PointwiseConv2d(weight, bias, activation=activation)
    if conv.stride == (1, 1) and all(side % 2 for side in conv.kernel_size):
        return FixedConv2d(weight, bias, conv.groups, activation)
    return ZeroTapConv2d(weight, bias, _stride(conv), conv.groups, activation)


def _stride(conv: nn.Conv2d) -> tuple[int, int]:
    return conv.stride[0], conv.stride[1]


def _kernel(conv: nn.Conv2d, norm: Any = None) -> tuple[Tensor, Tensor | None]:
    """(weight, bias) of `norm(conv(x))`, computed in float64 and rounded once."""
    weight, bias = conv.weight.detach().double(), None if conv.bias is None else conv.bias.detach().double()
    if norm is not None:
        scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = weight * scale[:, None, None, None]
        bias = norm.bias.detach().double() + ((0 if bias is None else bias) - norm.running_mean.double()) * scale
    rounded = None if bias is None else bias.to(conv.weight.dtype, copy=True)
    return weight.to(conv.weight.dtype, copy=True), rounded


Parts = dict[str, nn.Module]


def _stem(given: Stem, activation: str) -> Parts:
    conv = FirstConv2d(*_kernel(given.conv, given.norm), _stride(given.conv), activation=activation)
    return {"conv": conv, "norm": nn.Identity()}


def _block(given: MBConv, activation: str) -> Parts:
    parts: Parts = {
        "depthwise": _folded(given.depthwise, given.depthwise_norm, activation),
        "depthwise_norm": nn.Identity(),
        "project": GatedProjection(*_kernel(given.project, given.project_norm)),
        "project_norm": nn.Identity(),
    }
    if isinstance(given.expand, nn.Conv2d):
        parts |= {"expand": _folded(given.expand, given.expand_norm, activation), "expand_norm": nn.Identity()}
    gate = given.squeeze_excite
    if isinstance(gate, SqueezeExcite):
        parts["squeeze_excite"] = Gate(gate.reduce, in_place_activation(activation), gate.expand)
    return parts


def _resample(given: Resample, activation: str) -> Parts:
    if not isinstance(given.conv, nn.Conv2d):
        return {}
    return {"conv": _folded(given.conv, given.norm), "norm": nn.Identity()}


def _node(given: FusionNode, activation: str) -> Parts:
    return {
        "fuse": _fusion(given.fuse),
        "activation": in_place_activation(activation),
        "conv": nn.Sequential(_folded(given.conv.depthwise), _folded(given.conv.pointwise, given.norm)),
        "norm": nn.Identity(),
    }


def _fusion(given: WeightedFusion | SumFusion) -> nn.Module:
    if isinstance(given, SumFusion):
        return InPlaceSumFusion()
    weights = [given.rectify(weight.detach().double()) for weight in given.edge_weights]
    total = given.total(weights)
    return ScaledFusion([float(weight / total) for weight in weights])


def _head(given: Head, activation: str) -> Parts:
    """Depthwise kernels stay shared by all levels; each level has a pointwise one with its own norm in it."""
    convs = cast("list[SeparableConv]", list(given.convs))
    norms = cast("list[nn.ModuleDict]", list(given.norms))
    return {
        "convs": nn.ModuleList(_folded(conv.depthwise) for conv in convs),
        "norms": nn.ModuleList(
            nn.ModuleDict({level: _folded(conv.pointwise, norm, activation) for level, norm in per_level.items()})
            for conv, per_level in zip(convs, norms, strict=True)
        ),
        "predict": nn.Sequential(_folded(given.predict.depthwise), _folded(given.predict.pointwise)),
    }


# What takes the places of a module's parts; everything else computes as it did.
FAST_PARTS: dict[type[nn.Module], Callable[[Any, str], Parts]] = {
    Stem: _stem,
    MBConv: _block,
    Resample: _resample,
    FusionNode: _node,
    Head: _head,
}
# What computes with those parts.
FAST_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    EfficientNet: FastEfficientNet,
    MBConv: FastMBConv,
    Resample: FastResample,
    ZeroPaddedResample: FastZeroPaddedResample,
}
