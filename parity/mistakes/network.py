"""The known mistakes of porting EfficientDet, as named changes to a model: what such a port does instead, and where.

Mistakes outside the network (resizing, normalisation, decoding, NMS) are none of these.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import Tensor

from ...convert.layers import layers
from ...effdet_torch.architecture import blocks
from ...effdet_torch.bifpn import ZeroPaddedResample
from ...effdet_torch.config import Config
from ...effdet_torch.model import EfficientDet
from ..copying import copied
from . import modules as mistakes
from .modules import Edit, overriding


def _any(config: Config) -> bool:
    return True


class Change(NamedTuple):
    """One mistake: its name, what a port with it does instead, and how to make a model do the same."""

    name: str
    summary: str
    apply: Edit  # once and in place, to a model its caller owns
    shows: Callable[[Config], str | None]  # key of the first layer it can change (`convert/layers.py`), if there is any
    needs: Callable[[Config], bool] = _any  # what else a model must have

    def fits(self, config: Config) -> bool:
        """Whether the models of this config have what it changes."""
        return self.needs(config) and self.shows(config) is not None


def changed(model: EfficientDet, change: Change) -> EfficientDet:
    """A deep copy of `model` with the change; `model` itself stays as it is."""
    other = copied(model)
    change.apply(other)
    return other


def raw_weights(state: Mapping[str, Tensor]) -> Change:
    """The checkpoint's raw weights (`state`, a whole state dict) instead of their moving averages.

    What a port computes that takes no notice of the shadow variables. Made, not listed: a model no longer has them.
    """

    def apply(model: EfficientDet) -> None:
        model.load_state_dict(state, strict=True)

    return Change("raw-weights", "raw weights instead of their moving averages", apply, _first("backbone.stem.conv"))


def _first(path: str) -> Callable[[Config], str | None]:
    """Finds the first layer whose module has this path; `*` stands for any text."""
    return lambda config: next((layer.key for layer in layers(config) if fnmatchcase(layer.module, path)), None)


def _first_computed_by(operation: str) -> Callable[[Config], str | None]:
    """Finds the first layer that the official graph computes by this operation."""
    return lambda config: next((layer.key for layer in layers(config) if layer.operation.endswith(operation)), None)


def _first_skip(config: Config) -> str | None:
    return next((f"backbone.blocks.{index}" for index, block in enumerate(blocks(config)) if block.has_skip), None)


def _first_repeated_projection(config: Config) -> str | None:
    repeated = mistakes.repeated_projections(config)
    return next((f"bifpn.cells.0.nodes.{node}.resamples.{place}.conv" for _, (node, place) in repeated), None)


def _second_level_norm(config: Config) -> str | None:
    return f"class_head.norms.0.{config.levels[1]}" if len(config.levels) > 1 else None


def _swish(config: Config) -> bool:
    return config.activation == "swish"


def _relu6(config: Config) -> bool:
    return config.activation == "relu6"


def _official_pool(config: Config) -> bool:
    return not config.zero_padded_pool


def _weighted_fusion(config: Config) -> bool:
    return config.fusion == "fastattn"


def _several_classes(config: Config) -> bool:
    return config.num_classes > 1 and config.num_anchors > 1


def _several_scales_and_aspects(config: Config) -> bool:
    return config.num_scales > 1 and len(config.aspect_ratios) > 1


_ROWS = (
    # Everywhere. A kind of port is named where one is known for the mistake.
    Change(
        "batch-norm-epsilon",
        "batch norm eps 1e-5, PyTorch's default, instead of 1e-3",
        mistakes.batch_norm_epsilon,
        _first("backbone.stem.norm"),
    ),
    Change(
        "batch-statistics",
        "batch norm by the batch's own mean and variance: a model left in training mode",
        overriding(mistakes.BatchStatistics),
        _first("backbone.stem.norm"),
    ),
    Change(
        "relu6-activation",
        "ReLU6 instead of swish everywhere: a Lite's network for a model that is none",
        mistakes.activations("relu6"),
        _first("backbone.stem.norm"),
        _swish,
    ),
    Change(
        "swish-activation",
        "swish instead of ReLU6 everywhere: the network of d0 to d7x for a Lite",
        mistakes.activations("swish"),
        _first("backbone.stem.norm"),
        _relu6,
    ),
    # Backbone.
    Change(
        "swapped-input-channels",
        "BGR images where the weights expect RGB: ports that read images with OpenCV",
        mistakes.swapped_input_channels,
        _first("backbone.stem.conv"),
    ),
    Change(
        "no-same-conv",
        "convolutions padded by (kernel - 1) // 2 on every side: PyTorch backbones not made for TensorFlow weights",
        overriding(mistakes.SymmetricConv),
        _first("backbone.stem.conv"),
    ),
    Change(
        "no-squeeze-excite",
        "no squeeze-excite: a Lite's blocks for a model that is none",
        overriding(mistakes.NoGate),
        _first("*.squeeze_excite.mean"),
    ),
    Change(
        "no-squeeze-excite-bias",
        "squeeze-excite without its two biases",
        mistakes.no_squeeze_excite_bias,
        _first("*.squeeze_excite.reduce"),
    ),
    Change(
        "squeeze-excite-relu",
        "ReLU inside squeeze-excite, as in SENet and MobileNetV3, instead of swish",
        mistakes.squeeze_excite_relu,
        _first("*.squeeze_excite.expand"),
    ),
    Change(
        "no-skip",
        "blocks without their identity skip",
        mistakes.no_skip,
        _first_skip,
    ),
    # Resampling in the BiFPN.
    Change(
        "no-same-maxpool",
        "max-pool padded by one pixel on every side, PyTorch's MaxPool2d(3, 2, padding=1)",
        overriding(mistakes.SymmetricMaxPool),
        _first_computed_by("MaxPool"),
    ),
    Change(
        "zero-padded-maxpool",
        "max-pool padded with zeros, F.pad's default, instead of minus infinity: hand-written SAME pools",
        overriding(ZeroPaddedResample),
        _first_computed_by("MaxPool"),
        _official_pool,
    ),
    Change(
        "pool-before-projection",
        "P6 pooled first and projected then: the official option conv_after_downsample, which no release uses",
        overriding(mistakes.PoolingFirst),
        _first("bifpn.extra_levels.*.conv"),
    ),
    Change(
        "no-projection-bias",
        "1x1 projections without the bias that batch norm seems to make redundant",
        mistakes.no_projection_bias,
        _first("bifpn.*.conv"),
    ),
    Change(
        "no-cell-projection-bias",
        "the cells' own projections without their bias, those up to the extra levels with it: bonlime/pytorch-tools",
        mistakes.no_cell_projection_bias,
        _first("bifpn.cells.*.resamples.*.conv"),
    ),
    Change(
        "shared-projection",
        "in the first cell, bottom-up nodes reuse the top-down nodes' projection of P4 and P5",
        mistakes.shared_projection,
        _first_repeated_projection,
    ),
    Change(
        "bilinear-upsampling",
        "bilinear upsampling (align_corners=False) instead of nearest neighbour",
        overriding(mistakes.BilinearUpsampling),
        _first_computed_by("ResizeNearestNeighbor"),
    ),
    Change(
        "half-pixel-upsampling",
        "nearest neighbour by pixel centres, TensorFlow 2's tf.image.resize; differs where a map is not twice the next",
        overriding(mistakes.HalfPixelUpsampling),
        _first_computed_by("ResizeNearestNeighbor"),
    ),
    # Fusion in the BiFPN.
    Change(
        "no-fusion-relu",
        "negative edge weights taken as they are; differs only where there are any",
        overriding(mistakes.UnrectifiedFusion),
        _first("bifpn.*.fuse"),
        _weighted_fusion,
    ),
    Change(
        "no-fusion-epsilon",
        "edge weights divided by their sum alone, without 1e-4",
        overriding(mistakes.UnstabilizedFusion),
        _first("bifpn.*.fuse"),
        _weighted_fusion,
    ),
    Change(
        "fusion-divides-first",
        "x * (weight / total) instead of x * weight / total; differs in the last bit only",
        overriding(mistakes.DividingFirst),
        _first("bifpn.*.fuse"),
        _weighted_fusion,
    ),
    Change(
        "softmax-fusion",
        "softmax of the edge weights, the paper's slower fusion, instead of the fast one",
        overriding(mistakes.SoftmaxFusion),
        _first("bifpn.*.fuse"),
        _weighted_fusion,
    ),
    Change(
        "no-fusion-activation",
        "no activation between a node's fusion and its convolution",
        mistakes.no_fusion_activation,
        _first("bifpn.*.activation"),
    ),
    Change(
        "no-fusion-bias",
        "nodes' convolutions without the bias that batch norm seems to make redundant",
        mistakes.no_fusion_bias,
        _first("bifpn.*.conv.pointwise"),
    ),
    # Heads.
    Change(
        "no-head-bias",
        "the heads' hidden convolutions without the bias that batch norm seems to make redundant",
        mistakes.no_head_bias,
        _first("class_head.convs.0.pointwise"),
    ),
    Change(
        "one-level-norms",
        "the lowest level's batch norms for every level of both heads: heads shared as a whole, as in RetinaNet",
        mistakes.one_level_norms,
        _second_level_norm,
    ),
    Change(
        "class-major-outputs",
        "class logits read as (classes, anchors) instead of (anchors, classes)",
        mistakes.class_major_outputs,
        _first("class_head.predict"),
        _several_classes,
    ),
    Change(
        "aspect-major-anchors",
        "anchors that vary over aspect first, then scale, as torchvision's: other anchors for the same outputs",
        mistakes.aspect_major_anchors,
        _first("class_head.predict"),
        _several_scales_and_aspects,
    ),
    Change(
        "xyxy-box-codes",
        "box codes read as (tx, ty, tw, th) instead of (ty, tx, th, tw)",
        mistakes.xyxy_box_codes,
        _first("box_head.predict"),
    ),
)
CHANGES: Mapping[str, Change] = {change.name: change for change in _ROWS}
