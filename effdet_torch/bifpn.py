"""The bidirectional feature pyramid (BiFPN).

Paper: EfficientDet (Tan, Pang and Le, 2020), section 3. Source: google/automl `tf2/efficientdet_keras.py: FNode,
ResampleFeatureMap, FPNCells`. Feature maps are (B, C, H, W), one per level, lowest level (largest map) first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .architecture import Node, backbone_channels, cell_nodes, extra_levels
from .config import Config, ConfigError
from .ops import BatchNorm, SameConv2d, make_activation, resize_nearest, same_max_pool, same_padding

FUSION_EPSILON = 1e-4


class ImageSizeError(ConfigError):
    """An image size whose feature maps the BiFPN cannot bring to a common size."""


class Resample(nn.Module):
    """Bring a feature map to a node's width and size: 1x1 convolution and batch norm where the width differs, then
    max-pool down or nearest-neighbour up."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        project = inputs != outputs
        self.conv = nn.Conv2d(inputs, outputs, 1) if project else nn.Identity()  # its bias is redundant, and kept
        self.norm = BatchNorm(outputs) if project else nn.Identity()

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, H, W) -> (B, C', *size). Raises ImageSizeError when one axis alone would shrink."""
        return self.resize(self.norm(self.conv(x)), size)

    def resize(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, H, W) -> (B, C, *size): pooled, repeated, or as it is."""
        height, width = x.shape[2:]
        if (height, width) == size:
            return x
        if height > size[0] and width > size[1]:
            stride = (height - 1) // size[0] + 1, (width - 1) // size[1] + 1
            return self.pool(x, (stride[0] + 1, stride[1] + 1), stride)
        if height <= size[0] and width <= size[1]:
            return self.upsample(x, size)
        raise ImageSizeError(
            f"a {height}x{width} feature map cannot become {size[0]}x{size[1]}: the image is too narrow for its top "
            f"level, as in the official code; use a larger or squarer one"
        )

    def pool(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        return same_max_pool(x, kernel, stride)

    def upsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, H, W) -> (B, C, *size)."""
        return resize_nearest(x, size)


class ZeroPaddedResample(Resample):
    """Pads max-pooling as SAME does, but with zeros, which win over negative values: another function than the official
    one, and what the networks of zylo117/Yet-Another-EfficientDet-Pytorch and mmdetection compute."""

    def pool(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        rows, columns = (same_padding(x.shape[2 + axis], kernel[axis], stride[axis]) for axis in (0, 1))
        return F.max_pool2d(F.pad(x, (*columns, *rows)), kernel, stride)


def resample_class(config: Config) -> type[Resample]:
    """How the network of a config resamples."""
    return ZeroPaddedResample if config.zero_padded_pool else Resample


class WeightedFusion(nn.Module):
    """Fast normalised fusion: sum of x_i * relu(w_i) / (sum of relu(w) + 1e-4), with one scalar per input."""

    def __init__(self, inputs: int):
        super().__init__()
        self.edge_weights = nn.ParameterList(torch.ones(()) for _ in range(inputs))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        weights = [self.rectify(weight) for weight in self.edge_weights]
        total = self.total(weights)
        scaled = [self.scale(x, weight, total) for x, weight in zip(maps, weights, strict=True)]
        return sum(scaled[1:], start=scaled[0])

    def rectify(self, weight: Tensor) -> Tensor:
        """An edge weight, never negative."""
        return F.relu(weight)

    def total(self, weights: Sequence[Tensor]) -> Tensor:
        """What the weighted inputs are divided by, never zero."""
        return sum(weights[1:], start=weights[0]) + FUSION_EPSILON

    def scale(self, x: Tensor, weight: Tensor, total: Tensor) -> Tensor:
        """One input's part in the sum."""
        return x * weight / total  # multiply, then divide: the order in which TensorFlow rounds


class SumFusion(nn.Module):
    """Plain sum of the inputs (d6, d7, d7x and Lite)."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return sum(maps[1:], start=maps[0])


class SeparableConv(nn.Module):
    """3x3 depthwise convolution, then 1x1 convolution with bias: (B, C, H, W) -> (B, C', H, W)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.depthwise = SameConv2d(inputs, inputs, 3, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


class FusionNode(nn.Module):
    """One BiFPN node: resample its inputs, fuse them, activation, separable convolution, batch norm."""

    def __init__(self, node: Node, config: Config):
        super().__init__()
        channels = config.fpn_channels
        self.inputs = node.inputs
        self.level_index = node.level - config.min_level
        resample = resample_class(config)
        self.resamples = nn.ModuleList(resample(inputs, channels) for inputs in node.input_channels)
        self.fuse = WeightedFusion(len(node.inputs)) if config.fusion == "fastattn" else SumFusion()
        self.activation = make_activation(config.activation)
        self.conv = SeparableConv(channels, channels)  # its bias is redundant before the norm, and kept
        self.norm = BatchNorm(channels)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """`features`: the cell's inputs and the nodes so far. Returns (B, C, H, W) at this node's level."""
        height, width = features[self.level_index].shape[2:]
        maps = [
            resample(features[index], (height, width))
            for resample, index in zip(self.resamples, self.inputs, strict=True)
        ]
        return self.norm(self.conv(self.activation(self.fuse(maps))))  # type: ignore[no-any-return]


class Cell(nn.Module):
    """One BiFPN layer: level features in, level features out."""

    def __init__(self, nodes: Sequence[Node], config: Config):
        super().__init__()
        self.nodes = nn.ModuleList(FusionNode(node, config) for node in nodes)
        last = {node.level: index for index, node in enumerate(nodes)}
        self.outputs = [len(config.levels) + last[level] for level in config.levels]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        features = list(features)
        for node in self.nodes:
            features.append(node(features))
        return [features[index] for index in self.outputs]


class BiFPN(nn.Module):
    """Backbone features -> one (B, fpn_channels, H, W) map per level: higher levels by pooling, then all cells."""

    def __init__(self, config: Config):
        super().__init__()
        channels = backbone_channels(config)[-1]
        self.extra_levels = nn.ModuleDict()
        for level in extra_levels(config):
            self.extra_levels[str(level)] = resample_class(config)(channels, config.fpn_channels)
            channels = config.fpn_channels
        self.cells = nn.ModuleList(Cell(cell_nodes(config, cell), config) for cell in range(config.fpn_cells))

    def forward(self, backbone_features: Sequence[Tensor]) -> list[Tensor]:
        features = list(backbone_features)
        for resample in self.extra_levels.values():
            height, width = features[-1].shape[2:]
            features.append(resample(features[-1], ((height + 1) // 2, (width + 1) // 2)))
        for cell in self.cells:
            features = cell(features)
        return features
