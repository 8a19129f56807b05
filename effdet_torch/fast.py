"""A faster form of an EfficientDet that computes the same: `effconv.fast(model)`.

Norms are folded, channels come last in memory, SAME padding costs no copy, and activations work in place. Each part is
made from the part of the model it stands for, of which it keeps nothing; parity proves them equal.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import EffconvError
from .backbone import EfficientNet, MBConv
from .bifpn import BiFPN, Cell, FusionNode, Resample, WeightedFusion
from .folding import Convolution, Pointwise, folded, max_pool
from .heads import Head
from .model import EfficientDet
from .ops import resize_nearest

if TYPE_CHECKING:
    from .postprocess import Postprocessor
    from .predict import Prediction, Source
    from .preprocess import Preprocessor


class FastEfficientDet(nn.Module):
    """What `fast` makes: called as an EfficientDet is, for any image size, in eval mode only."""

    def __init__(self, model: EfficientDet):
        super().__init__()
        if model.training:
            raise EffconvError("the model is in training mode; only one that is trained has a fast form: call eval()")
        self.config = model.config
        self.backbone = FastBackbone(model.backbone, activation(self.config.activation))
        self.bifpn = FastBiFPN(model.bifpn, activation(self.config.activation))
        self.class_head = FastHead(model.class_head, activation(self.config.activation))
        self.box_head = FastHead(model.box_head, activation(self.config.activation))
        super().train(False)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), found {tuple(images.shape)}")
        features = self.bifpn(self.backbone(images.contiguous(memory_format=torch.channels_last)))
        return self.class_head(features), self.box_head(features)

    def train(self, mode: bool = True) -> "FastEfficientDet":
        """Raises EffconvError when asked to train: its norms are gone."""
        if mode:
            raise EffconvError("a fast model cannot be trained: train the EfficientDet it was made from")
        return self

    def predict(
        self,
        sources: "Sequence[Source]",
        *,
        preprocess: "Preprocessor | None" = None,
        postprocess: "Postprocessor | None" = None,
        batch: int = 1,
    ) -> "list[Prediction]":
        """Objects in image files or encoded images, as `EfficientDet.predict` finds them."""
        from .predict import predict  # images and suppression need more than the network does

        return predict(self, sources, preprocess=preprocess, postprocess=postprocess, batch=batch)


def fast(model: EfficientDet) -> FastEfficientDet:
    """An equivalent of `model`, faster: same inputs, outputs equal but for rounding. `model` is left as it is.

    Raises EffconvError for a model in training mode.
    """
    return FastEfficientDet(model)


Activation = Callable[[Tensor], Tensor]


def activation(name: str) -> Activation:
    """The activation of `Config.activation`, in place."""
    return {"swish": _swish, "relu6": _relu6}[name]


def _swish(x: Tensor) -> Tensor:
    return F.silu(x, inplace=True)


def _relu6(x: Tensor) -> Tensor:
    return F.relu6(x, inplace=True)


class FastBackbone(nn.Module):
    """`backbone.EfficientNet`."""

    def __init__(self, backbone: EfficientNet, activate: Activation):
        super().__init__()
        self.stem = Convolution(backbone.stem.conv, backbone.stem.norm)
        self.blocks = nn.ModuleList(FastMBConv(block, activate) for block in backbone.blocks)  # type: ignore[arg-type]
        self.ends, self.activate = backbone.ends, activate

    def forward(self, images: Tensor) -> list[Tensor]:
        features = []
        x = self.activate(self.stem(images))
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                features.append(x)
        return features


class FastMBConv(nn.Module):
    """`backbone.MBConv`."""

    def __init__(self, block: MBConv, activate: Activation):
        super().__init__()
        expands = isinstance(block.expand, nn.Conv2d)
        self.expand = _pointwise(block.expand, block.expand_norm) if expands else None
        self.depthwise = Convolution(block.depthwise, block.depthwise_norm)
        squeezes = block.squeeze_excite if not isinstance(block.squeeze_excite, nn.Identity) else None
        self.reduce = _pointwise(squeezes.reduce) if squeezes else None
        self.excite = _pointwise(squeezes.expand) if squeezes else None
        self.project = _pointwise(block.project, block.project_norm)
        self.has_skip, self.activate = block.has_skip, activate

    def forward(self, x: Tensor) -> Tensor:
        expanded = self.activate(self.expand(x)) if self.expand else x
        hidden = self.activate(self.depthwise(expanded))
        if self.reduce and self.excite:
            squeezed = self.activate(self.reduce(hidden.mean((2, 3), keepdim=True)))
            made = self.project.gated(hidden, self.excite(squeezed).sigmoid_().flatten(1))
        else:
            made = self.project(hidden)
        return made.add_(x) if self.has_skip else made


class FastBiFPN(nn.Module):
    """`bifpn.BiFPN`."""

    def __init__(self, bifpn: BiFPN, activate: Activation):
        super().__init__()
        self.extra_levels = nn.ModuleList(FastResample(each) for each in bifpn.extra_levels.values())
        self.cells = nn.ModuleList(FastCell(cell, activate) for cell in bifpn.cells)  # type: ignore[arg-type]

    def forward(self, backbone_features: Sequence[Tensor]) -> list[Tensor]:
        features = list(backbone_features)
        for resample in self.extra_levels:
            height, width = features[-1].shape[2:]
            features.append(resample(features[-1], ((height + 1) // 2, (width + 1) // 2)))
        for cell in self.cells:
            features = cell(features)
        return features


class FastResample(Resample):
    """`bifpn.Resample`."""

    def __init__(self, resample: Resample):
        nn.Module.__init__(self)
        projects = isinstance(resample.conv, nn.Conv2d)
        self.conv = _pointwise(resample.conv, resample.norm) if projects else nn.Identity()
        self.norm = nn.Identity()

    def pool(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """As the model's, without a padded copy."""
        return max_pool(x, kernel, stride)

    def upsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """As the model's; a whole factor is PyTorch's own operation, which takes the same pixels."""
        if size[0] % x.shape[2] or size[1] % x.shape[3]:
            return resize_nearest(x, size)
        return F.interpolate(x, size)


class FastCell(nn.Module):
    """`bifpn.Cell`."""

    def __init__(self, cell: Cell, activate: Activation):
        super().__init__()
        self.nodes = nn.ModuleList(FastNode(node, activate) for node in cell.nodes)  # type: ignore[arg-type]
        self.outputs = cell.outputs

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        features = list(features)
        for node in self.nodes:
            features.append(node(features))
        return [features[index] for index in self.outputs]


class FastNode(nn.Module):
    """`bifpn.FusionNode`: an input's part in the sum is one number, known beforehand."""

    def __init__(self, node: FusionNode, activate: Activation):
        super().__init__()
        self.inputs, self.level_index, self.activate = node.inputs, node.level_index, activate
        self.resamples = nn.ModuleList(FastResample(each) for each in node.resamples)  # type: ignore[arg-type]
        self.shares = _shares(node.fuse) if isinstance(node.fuse, WeightedFusion) else None
        self.depthwise = Convolution(node.conv.depthwise, nn.Identity())
        self.pointwise = _pointwise(node.conv.pointwise, node.norm)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        height, width = features[self.level_index].shape[2:]
        first, *others = (
            resample(features[index], (height, width))
            for resample, index in zip(self.resamples, self.inputs, strict=True)
        )
        shares = self.shares or [1.0] * (1 + len(others))
        if self.shares:
            fused = first * shares[0]
        else:
            fused, others, shares = first + others[0], others[1:], shares[1:]
        for x, share in zip(others, shares[1:], strict=True):
            fused.add_(x, alpha=share)
        return self.pointwise(self.depthwise(self.activate(fused)))  # type: ignore[no-any-return]


def _shares(fuse: WeightedFusion) -> list[float]:
    with torch.no_grad():
        weights = [fuse.rectify(weight.double()) for weight in fuse.edge_weights]
        total = fuse.total(weights)
        return [float(weight / total) for weight in weights]


class FastHead(nn.Module):
    """`heads.Head`: each level has its own weights, in which its norms are folded."""

    def __init__(self, head: Head, activate: Activation):
        super().__init__()
        self.depthwise = nn.ModuleList(Convolution(conv.depthwise, nn.Identity()) for conv in head.convs)  # type: ignore[arg-type]
        self.pointwise = nn.ModuleList(
            nn.ModuleList(_pointwise(conv.pointwise, norms[level]) for level in head.levels)  # type: ignore[index, arg-type]
            for conv, norms in zip(head.convs, head.norms, strict=True)
        )
        self.predict_depthwise = Convolution(head.predict.depthwise, nn.Identity())
        self.predict_pointwise = _pointwise(head.predict.pointwise)
        self.residual, self.activate = head.residual, activate

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        predictions = []
        for level, x in enumerate(features):
            for repeat, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise, strict=True)):
                y = self.activate(pointwise[level](depthwise(x)))  # type: ignore[index]
                x = y.add_(x) if self.residual and repeat > 0 else y
            predictions.append(self.predict_pointwise(self.predict_depthwise(x)))
        return predictions


def _pointwise(convolution: nn.Module, norm: nn.Module | None = None) -> Pointwise:
    assert isinstance(convolution, nn.Conv2d)
    return Pointwise(*folded(convolution.weight, convolution.bias, norm or nn.Identity()))
