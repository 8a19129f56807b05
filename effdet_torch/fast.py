"""An EfficientDet in a form that runs faster and computes the same: for inference only.

Every batch norm becomes part of the convolution before it (with it go the official model's redundant biases), feature
maps lie with their channels last, and SAME padding copies nothing (`fast_ops.py`). The wiring is the model's own.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import EffconvError
from .backbone import MBConv, SqueezeExcite
from .bifpn import FusionNode, Resample, SeparableConv, WeightedFusion
from .fast_ops import (
    FastResample,
    FixedConv2d,
    InPlaceSqueezeExcite,
    InPlaceSumFusion,
    PointwiseConv2d,
    ScaledFusion,
    ZeroTapConv2d,
    in_place_activation,
)
from .heads import Head
from .model import EfficientDet
from .synchronised_norm import SYNCHRONISED


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
        self.backbone.stem.conv = _folded(model.backbone.stem.conv, model.backbone.stem.norm)
        self.backbone.stem.norm = in_place_activation(model.config.activation)
        for block, given in zip(self.backbone.blocks, model.backbone.blocks, strict=True):
            _make_fast_block(block, given, model.config.activation)  # type: ignore[arg-type]
        for mine, given in zip(list(self.bifpn.modules()), list(model.bifpn.modules()), strict=True):
            if isinstance(given, Resample):
                _make_fast_resample(mine, given)  # type: ignore[arg-type]
            elif isinstance(given, FusionNode):
                _make_fast_node(mine, given, model.config.activation)  # type: ignore[arg-type]
        for head, given_head in ((self.class_head, model.class_head), (self.box_head, model.box_head)):
            _make_fast_head(head, given_head, model.config.activation)
        self.to(memory_format=torch.channels_last)
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


def _make_fast_block(mine: MBConv, given: MBConv, activation: str) -> None:
    if isinstance(given.expand, nn.Conv2d):
        mine.expand = _folded(given.expand, given.expand_norm)  # type: ignore[assignment]
        mine.expand_norm = in_place_activation(activation)  # type: ignore[assignment]
    mine.depthwise = _folded(given.depthwise, given.depthwise_norm)  # type: ignore[assignment]
    mine.depthwise_norm = in_place_activation(activation)  # type: ignore[assignment]
    if isinstance(given.squeeze_excite, SqueezeExcite):
        gate = given.squeeze_excite
        mine.squeeze_excite = InPlaceSqueezeExcite(gate.reduce, in_place_activation(activation), gate.expand)  # type: ignore[assignment]
    mine.project = _folded(given.project, given.project_norm)  # type: ignore[assignment]
    mine.project_norm = nn.Identity()  # type: ignore[assignment]


def _make_fast_resample(mine: Resample, given: Resample) -> None:
    mine.__class__ = FastResample
    if isinstance(given.conv, nn.Conv2d):
        mine.conv, mine.norm = _folded(given.conv, given.norm), nn.Identity()  # type: ignore[assignment]


def _make_fast_node(mine: FusionNode, given: FusionNode, activation: str) -> None:
    if isinstance(given.fuse, WeightedFusion):
        weights = [given.fuse.rectify(weight.detach().double()) for weight in given.fuse.edge_weights]
        total = given.fuse.total(weights)
        mine.fuse = ScaledFusion([float(weight / total) for weight in weights])
    else:
        mine.fuse = InPlaceSumFusion()
    mine.activation = in_place_activation(activation)
    _make_fast_separable(mine.conv, given.conv, given.norm)
    mine.norm = nn.Identity()  # type: ignore[assignment]


def _make_fast_separable(mine: SeparableConv, given: SeparableConv, norm: Any = None) -> None:
    mine.depthwise = _folded(given.depthwise)  # type: ignore[assignment]
    mine.pointwise = _folded(given.pointwise, norm)  # type: ignore[assignment]


def _make_fast_head(mine: Head, given: Head, activation: str) -> None:
    """Depthwise kernels stay shared by all levels; each level has a pointwise one with its own norm in it."""
    for repeat, (conv, norms) in enumerate(zip(given.convs, given.norms, strict=True)):
        assert isinstance(conv, SeparableConv)
        mine.convs[repeat] = _folded(conv.depthwise)
        mine.norms[repeat] = nn.ModuleDict(
            {
                level: nn.Sequential(_folded(conv.pointwise, norm), in_place_activation(activation))
                for level, norm in norms.items()  # type: ignore[operator]
            }
        )
    _make_fast_separable(mine.predict, given.predict)
