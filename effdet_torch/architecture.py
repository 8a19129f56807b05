"""A Config written out: every MBConv block and every BiFPN node with its channel counts.

The model (`model.py`) and the rule table (`convert/rules.py`) are both built from these rows, and a test proves that
they agree. Like `config.py`, this file imports neither torch nor numpy.
"""

import math
from typing import NamedTuple

from .config import Config, ConfigError

SE_RATIO = 0.25
DEPTH_DIVISOR = 8
BACKBONE_LEVELS = 5  # EfficientNet halves its input five times; higher levels are pooled from the last


class Block(NamedTuple):
    """One MBConv block."""

    kernel: int
    stride: int
    input_channels: int
    hidden: int  # channels between expansion and projection
    output_channels: int
    squeezed: int  # channels inside squeeze-excite; 0 where there is none
    expands: bool  # a 1x1 convolution widens the input first
    has_skip: bool  # the input is added to the output


class Node(NamedTuple):
    """One BiFPN node: the level it makes, and which features it fuses.

    `inputs` index the list of the cell's inputs (level by level) followed by its nodes, in order. `input_channels` are
    theirs; an input whose width differs from the BiFPN's is projected by a 1x1 convolution of its own.
    """

    level: int
    inputs: tuple[int, ...]
    input_channels: tuple[int, ...]


def round_filters(filters: int, width: float) -> int:
    """Scale a channel count and round it to a multiple of 8, never more than 10 % down.

    Source: google/automl `backbone/efficientnet_model.py: round_filters`.
    """
    scaled = filters * width
    rounded = max(DEPTH_DIVISOR, int(scaled + DEPTH_DIVISOR / 2) // DEPTH_DIVISOR * DEPTH_DIVISOR)
    if rounded < 0.9 * scaled:
        rounded += DEPTH_DIVISOR
    return rounded


def stem_channels(config: Config) -> int:
    """Output channels of the backbone's first convolution."""
    filters = config.stages[0].input_filters
    return round_filters(filters, config.width) if config.scale_ends else filters


def stage_repeats(config: Config) -> list[int]:
    """How many blocks each stage of the backbone has.

    Source: google/automl `backbone/efficientnet_model.py: round_repeats`.
    """
    last = len(config.stages) - 1
    return [
        stage.repeats if index in (0, last) and not config.scale_ends else math.ceil(stage.repeats * config.depth)
        for index, stage in enumerate(config.stages)
    ]


def blocks(config: Config) -> tuple[Block, ...]:
    """Every MBConv block of the backbone, in order.

    Source: google/automl `backbone/efficientnet_model.py: Model._build`.
    """
    rows: list[Block] = []
    channels = stem_channels(config)
    for stage, repeats in zip(config.stages, stage_repeats(config), strict=True):
        # The official code sizes expansion, SE and skip by the stage's nominal input. That is the real one except in a
        # Lite's first stage, which the unscaled stem feeds.
        nominal = round_filters(stage.input_filters, config.width)
        output = round_filters(stage.output_filters, config.width)
        for repeat in range(repeats):
            stride = stage.stride if repeat == 0 else 1
            rows.append(
                Block(
                    kernel=stage.kernel,
                    stride=stride,
                    input_channels=channels,
                    hidden=channels if stage.expand_ratio == 1 else nominal * stage.expand_ratio,
                    output_channels=output,
                    squeezed=max(1, int(nominal * SE_RATIO)) if config.squeeze_excite else 0,
                    expands=stage.expand_ratio != 1,
                    has_skip=stride == 1 and nominal == output,
                )
            )
            channels = nominal = output
    return tuple(rows)


def reductions(config: Config) -> tuple[int, ...]:
    """Index of the block whose output is reduction level 1, 2, 3, 4, 5: the last one before each halving.

    Raises ConfigError when the stages do not halve the image exactly five times, the stem included.
    """
    rows = blocks(config)
    ends = [index for index in range(len(rows)) if index == len(rows) - 1 or rows[index + 1].stride == 2]
    if len(ends) != BACKBONE_LEVELS:
        raise ConfigError(
            f"model {config.name}: its backbone has {len(ends)} reduction levels, expected {BACKBONE_LEVELS}; "
            f"give its stages four strides of 2"
        )
    return tuple(ends)


def backbone_channels(config: Config) -> list[int]:
    """Channels of the backbone features the BiFPN starts from, lowest level first."""
    rows, ends = blocks(config), reductions(config)
    return [rows[ends[level - 1]].output_channels for level in config.levels if level <= BACKBONE_LEVELS]


def extra_levels(config: Config) -> list[int]:
    """Levels above the backbone's (6, 7, ...), each pooled from the one below."""
    return [level for level in config.levels if level > BACKBONE_LEVELS]


def cell_nodes(config: Config, cell: int) -> tuple[Node, ...]:
    """The nodes of one BiFPN cell: the top-down path, then the bottom-up path.

    Source: EfficientDet paper section 3.2 and google/automl `tf2/fpn_configs.py: bifpn_config`.
    """
    count = len(config.levels)
    channels = [config.fpn_channels] * count
    if cell == 0:
        channels[: len(backbone_channels(config))] = backbone_channels(config)
    at_level = {level: [index] for index, level in enumerate(config.levels)}  # level: features so far, oldest first
    rows: list[Node] = []

    def add(level: int, inputs: tuple[int, ...]) -> None:
        rows.append(Node(level, inputs, tuple(channels[index] for index in inputs)))
        at_level[level].append(len(channels))
        channels.append(config.fpn_channels)

    for level in reversed(config.levels[:-1]):
        add(level, (at_level[level][-1], at_level[level + 1][-1]))
    for level in config.levels[1:]:
        add(level, (*at_level[level], at_level[level - 1][-1]))
    return tuple(rows)
