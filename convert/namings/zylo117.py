"""zylo117/Yet-Another-EfficientDet-Pytorch: compound 0 to 6 are D0 to D6, 7 is D7, 8 is D7x; it has no Lite.

Source: its `efficientdet/model.py: BiFPN, Regressor, Classifier` and `efficientnet/model.py`.
"""

from functools import partial

from ...effdet_torch.architecture import blocks, cell_nodes, extra_levels
from ...effdet_torch.config import Config
from .naming import Naming
from .paths import HeadPaths, Modules, NodePaths, Paths, Projection, modules, vectors

BLOCK = {
    "expand": "_expand_conv.conv",
    "expand_norm": "_bn0",
    "depthwise": "_depthwise_conv.conv",
    "depthwise_norm": "_bn1",
    "squeeze_excite.reduce": "_se_reduce.conv",
    "squeeze_excite.expand": "_se_expand.conv",
    "project": "_project_conv.conv",
    "project_norm": "_bn2",
}
UNUSED = dict.fromkeys(("p6_w1", "p5_w1", "p4_w1", "p3_w1", "p7_w2"), 2) | dict.fromkeys(("p4_w2", "p5_w2", "p6_w2"), 3)


def level_and_path(config: Config, cell: int, index: int) -> tuple[int, str]:
    """(level a node makes, "up" on the top-down path or "down" on the bottom-up one)."""
    return cell_nodes(config, cell)[index].level, "up" if index < len(config.levels) - 1 else "down"


def _node(config: Config, cell: int, index: int) -> NodePaths:
    level, path = level_and_path(config, cell, index)
    node = f"bifpn.{cell}.conv{level}_{path}"
    # Only the map of a node's own level may need another width; the bottom-up path projects it once more.
    projection = f"bifpn.{cell}.p{level}_down_channel" + ("" if path == "up" else "_2")
    return NodePaths(
        convolution=node,
        norm=f"{node}.bn",
        projections=[Projection(f"{projection}.0.conv", f"{projection}.1")],
        edge_weights=f"bifpn.{cell}.p{level}_w{1 if path == 'up' else 2}",
    )


def _extra_level(config: Config, level: int) -> Projection:
    resample = f"bifpn.0.p{level - 1}_to_p{level}"
    return Projection(f"{resample}.0.conv", f"{resample}.1")


def _head(name: str) -> HeadPaths:
    return HeadPaths(
        predict=f"{name}.header",
        convolution=lambda repeat: f"{name}.conv_list.{repeat}",
        norm=lambda repeat, place: f"{name}.bn_list.{place}.{repeat}",
    )


def _unused(config: Config) -> dict[str, tuple[int, ...]]:
    if config.fusion == "fastattn":
        return {}
    # Its class makes those of five levels, whatever it computes with.
    return {f"bifpn.{cell}.{name}": (count,) for cell in range(config.fpn_cells) for name, count in UNUSED.items()}


def _functions(config: Config) -> Modules:
    for index in range(len(blocks(config))):
        yield f"backbone.blocks.{index}", f"backbone_net.model._blocks.{index}"
    for level in extra_levels(config):
        yield f"bifpn.extra_levels.{level}", f"bifpn.0.p{level - 1}_to_p{level}"
    for cell in range(config.fpn_cells):
        nodes = cell_nodes(config, cell)
        for index, node in enumerate(nodes):
            level, path = level_and_path(config, cell, index)
            # The last input is the level above on the top-down path, and the level below on the other.
            name = f"p{level}_{'up' if path == 'up' else 'down'}sample"
            yield f"bifpn.cells.{cell}.nodes.{index}.resamples.{len(node.inputs) - 1}", f"bifpn.{cell}.{name}"


PATHS = Paths(
    stem=Projection("backbone_net.model._conv_stem.conv", "backbone_net.model._bn0"),
    block=BLOCK,
    unexpanded=BLOCK,
    separable={"depthwise": "depthwise_conv.conv", "pointwise": "pointwise_conv.conv"},
    blocks=lambda config: [f"backbone_net.model._blocks.{index}" for index in range(len(blocks(config)))],
    extra_level=_extra_level,
    node=_node,
    class_head=_head("classifier"),
    box_head=_head("regressor"),
)
ZYLO117 = Naming(
    "zylo117",
    "zylo117/Yet-Another-EfficientDet-Pytorch",
    partial(modules, PATHS),
    partial(vectors, PATHS),
    signs=("backbone_net.model._conv_stem.conv.weight", "classifier.header.pointwise_conv.conv.bias"),
    class_outputs="classifier.header.pointwise_conv.conv.bias",
    models=lambda config: config.squeeze_excite,
    unused=_unused,
    functions=_functions,
    zero_padded_pool=True,
)
