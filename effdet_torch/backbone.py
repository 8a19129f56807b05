"""EfficientNet and EfficientNet-Lite up to reduction level 5.

Papers: EfficientNet (Tan and Le, 2019), MobileNetV2 (the inverted residual), Squeeze-and-Excitation.
Source: google/automl `backbone/efficientnet_model.py`.
"""

from torch import Tensor, nn

from .architecture import BACKBONE_LEVELS, Block, blocks, reductions, stem_channels
from .config import Config
from .ops import BatchNorm, BatchNormActivation, SameConv2d, make_activation


class Stem(nn.Module):
    """3x3 convolution of stride 2, batch norm, activation: (B, 3, H, W) -> (B, C, H/2, W/2)."""

    def __init__(self, channels: int, activation: str):
        super().__init__()
        self.conv = SameConv2d(3, channels, 3, stride=2)
        self.norm = BatchNormActivation(channels, activation)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images))  # type: ignore[no-any-return]


class ChannelMean(nn.Module):
    """The mean of each channel: (B, C, H, W) -> (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the channel means; shape unchanged."""

    def __init__(self, channels: int, squeezed: int, activation: str):
        super().__init__()
        self.mean = ChannelMean()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = make_activation(activation)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(self.activation(self.reduce(self.mean(x))))  # (B, C, 1, 1)
        return gate.sigmoid() * x  # type: ignore[no-any-return]


class MBConv(nn.Module):
    """Inverted residual block: expand 1x1, depthwise, squeeze-excite, project 1x1, and the skip where shapes allow."""

    def __init__(self, block: Block, activation: str):
        super().__init__()
        hidden = block.hidden
        self.has_skip = block.has_skip
        self.expand = nn.Conv2d(block.input_channels, hidden, 1, bias=False) if block.expands else nn.Identity()
        self.expand_norm = BatchNormActivation(hidden, activation) if block.expands else nn.Identity()
        self.depthwise = SameConv2d(hidden, hidden, block.kernel, block.stride, groups=hidden)
        self.depthwise_norm = BatchNormActivation(hidden, activation)
        self.squeeze_excite = SqueezeExcite(hidden, block.squeezed, activation) if block.squeezed else nn.Identity()
        self.project = nn.Conv2d(hidden, block.output_channels, 1, bias=False)
        self.project_norm = BatchNorm(block.output_channels)

    def forward(self, x: Tensor) -> Tensor:
        expanded = self.expand_norm(self.expand(x))
        gated = self.squeeze_excite(self.depthwise_norm(self.depthwise(expanded)))
        projected = self.project_norm(self.project(gated))
        return projected + x if self.has_skip else projected  # type: ignore[no-any-return]


class EfficientNet(nn.Module):
    """Images (B, 3, H, W) -> features of the reduction levels from `config.min_level` to 5, lowest level first."""

    def __init__(self, config: Config):
        super().__init__()
        self.stem = Stem(stem_channels(config), config.activation)
        self.blocks = nn.ModuleList(MBConv(block, config.activation) for block in blocks(config))
        used = [level for level in config.levels if level <= BACKBONE_LEVELS]
        self.ends = frozenset(reductions(config)[level - 1] for level in used)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = []
        x = self.stem(images)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                features.append(x)
        return features
