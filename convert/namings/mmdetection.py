"""mmdetection's `projects/EfficientDet`: D0 and D3, trained from TensorFlow's weights or its own.

Source: its `efficientdet/bifpn.py`, `efficientdet/efficientdet_head.py`, `convert_tf_to_pt.py`, and mmdetection
`mmdet/models/backbones/efficientnet.py`.
"""

from functools import partial

from ...effdet_torch.architecture import blocks
from ...effdet_torch.config import Config
from .naming import Naming
from .paths import HeadPaths, NodePaths, Paths, Projection, modules, vectors
from .zylo117 import level_and_path

OWN_CLASSES = 80  # of its configurations that are not named `tensorflow/`
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


def _blocks(config: Config) -> list[str]:
    """There a layer is all stages of one resolution, the stem being layer 0."""
    found: list[str] = []
    layer, repeat = 0, 0
    for index, block in enumerate(blocks(config)):
        layer, repeat = (layer + 1, 0) if index == 0 or block.stride == 2 else (layer, repeat + 1)
        found.append(f"backbone.layers.{layer}.{repeat}")
    return found


def _projection(path: str) -> Projection:
    return Projection(f"{path}.down_conv", f"{path}.bn")


def _node(config: Config, cell: int, index: int) -> NodePaths:
    level, path = level_and_path(config, cell, index)
    node = f"neck.bifpn.{cell}.conv{level}_{path}"
    return NodePaths(
        convolution=node,
        norm=f"{node}.bn",
        projections=[
            _projection(f"neck.bifpn.{cell}.p{level}_{'down_channel' if path == 'up' else 'level_connection'}")
        ],
        edge_weights=f"neck.bifpn.{cell}.p{level}_w{1 if path == 'up' else 2}",
    )


def _head(name: str) -> HeadPaths:
    return HeadPaths(
        predict=f"bbox_head.{name}_header",
        convolution=lambda repeat: f"bbox_head.{name}_conv_list.{repeat}",
        norm=lambda repeat, place: f"bbox_head.{name}_bn_list.{repeat}.{place}",
    )


def _other_boxes(config: Config) -> str:
    if config.num_classes != OWN_CLASSES:
        return ""
    return f"{OWN_CLASSES}, with which its own training codes boxes as (dx, dy, dw, dh)"


PATHS = Paths(
    stem=Projection("backbone.layers.0.conv", "backbone.layers.0.bn"),
    block=BLOCK,
    unexpanded=BLOCK,
    separable={"depthwise": "depthwise_conv", "pointwise": "pointwise_conv"},
    blocks=_blocks,
    extra_level=lambda config, level: _projection(f"neck.bifpn.0.p{level - 1}_to_p{level}.0"),
    node=_node,
    class_head=_head("cls"),
    box_head=_head("reg"),
)
MMDETECTION = Naming(
    "mmdetection",
    "mmdetection projects/EfficientDet",
    partial(modules, PATHS),
    partial(vectors, PATHS),
    signs=("backbone.layers.0.conv.weight", "bbox_head.cls_header.pointwise_conv.bias"),
    class_outputs="bbox_head.cls_header.pointwise_conv.bias",
    models=lambda config: config.squeeze_excite and config.fusion == "fastattn",
    zero_padded_pool=True,
    other_boxes=_other_boxes,
    notice="its boxes must be coded as TensorFlow's (yxyx): the file does not say",
)
