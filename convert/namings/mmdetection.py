"""mmdetection's `projects/EfficientDet`: D0 and D3, trained from TensorFlow's weights or its own.

Source: its `efficientdet/bifpn.py`, `efficientdet/efficientdet_head.py`, `convert_tf_to_pt.py`, and mmdetection
`mmdet/models/backbones/efficientnet.py`.
"""

from ...effdet_torch.architecture import blocks, cell_nodes, extra_levels
from ...effdet_torch.config import Config
from .naming import Modules, Naming
from .zylo117 import node_names

BLOCK = {
    "expand": "expand_conv.conv",
    "expand_norm": "expand_conv.bn",
    "depthwise": "depthwise_conv.conv",
    "depthwise_norm": "depthwise_conv.bn",
    "squeeze_excite.reduce": "se.conv1.conv",
    "squeeze_excite.expand": "se.conv2.conv",
    "project": "linear_conv.conv",
    "project_norm": "linear_conv.bn",
}
SEPARABLE = {"depthwise": "depthwise_conv", "pointwise": "pointwise_conv"}


def _layer_and_repeat(config: Config) -> list[tuple[int, int]]:
    """(layer, repeat) of each block: there a layer is all stages of one resolution, the stem being layer 0."""
    found: list[tuple[int, int]] = []
    layer, repeat = 0, 0
    for index, block in enumerate(blocks(config)):
        layer, repeat = (layer + 1, 0) if index == 0 or block.stride == 2 else (layer, repeat + 1)
        found.append((layer, repeat))
    return found


def _modules(config: Config) -> Modules:
    yield "backbone.stem.conv", "backbone.layers.0.conv"
    yield "backbone.stem.norm", "backbone.layers.0.bn"
    for index, (layer, repeat) in enumerate(_layer_and_repeat(config)):
        for ours, theirs in BLOCK.items():
            yield f"backbone.blocks.{index}.{ours}", f"backbone.layers.{layer}.{repeat}.{theirs}"
    for level in extra_levels(config):
        resample = f"neck.bifpn.0.p{level - 1}_to_p{level}.0"
        yield f"bifpn.extra_levels.{level}.conv", f"{resample}.down_conv"
        yield f"bifpn.extra_levels.{level}.norm", f"{resample}.bn"
    for cell in range(config.fpn_cells):
        for index, (node, (conv, _)) in enumerate(zip(cell_nodes(config, cell), node_names(config, cell), strict=True)):
            ours = f"bifpn.cells.{cell}.nodes.{index}"
            for inner, name in SEPARABLE.items():
                yield f"{ours}.conv.{inner}", f"neck.bifpn.{cell}.{conv}.{name}"
            yield f"{ours}.norm", f"neck.bifpn.{cell}.{conv}.bn"
            kind = "down_channel" if conv.endswith("_up") else "level_connection"
            yield f"{ours}.resamples.0.conv", f"neck.bifpn.{cell}.p{node.level}_{kind}.down_conv"
            yield f"{ours}.resamples.0.norm", f"neck.bifpn.{cell}.p{node.level}_{kind}.bn"
    for kind, head in (("class", "bbox_head.cls"), ("box", "bbox_head.reg")):
        for inner, name in SEPARABLE.items():
            yield f"{kind}_head.predict.{inner}", f"{head}_header.{name}"
            for repeat in range(config.head_repeats):
                yield f"{kind}_head.convs.{repeat}.{inner}", f"{head}_conv_list.{repeat}.{name}"
        for repeat in range(config.head_repeats):
            for index, level in enumerate(config.levels):
                yield f"{kind}_head.norms.{repeat}.{level}", f"{head}_bn_list.{repeat}.{index}"


def _vectors(config: Config) -> Modules:
    for cell in range(config.fpn_cells):
        for index, (_, weights) in enumerate(node_names(config, cell)):
            yield f"bifpn.cells.{cell}.nodes.{index}.fuse.edge_weights", f"neck.bifpn.{cell}.{weights}"


MMDETECTION = Naming(
    "mmdetection",
    "mmdetection projects/EfficientDet",
    _modules,
    _vectors,
    signs=("backbone.layers.0.conv.weight", "bbox_head.cls_header.pointwise_conv.bias"),
    models=lambda config: config.squeeze_excite and config.fusion == "fastattn",
    notice=(
        "its own network pads max-pooling with zeros; effconv's, as TensorFlow's, with minus infinity. Its boxes must "
        "be coded as TensorFlow's (yxyx): the file does not say"
    ),
)
