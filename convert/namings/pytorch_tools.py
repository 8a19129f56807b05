"""bonlime/pytorch-tools: D0 to D6.

Source: its `pytorch_tools/detection_models/efficientdet.py`, `modules/bifpn.py` and `models/efficientnet.py`.
"""

from functools import partial

from ...effdet_torch.architecture import cell_nodes, extra_levels
from ...effdet_torch.config import Config
from .effdet import by_stage
from .naming import Naming
from .paths import HeadPaths, Modules, NodePaths, Paths, Projection, modules, vectors

HIGHEST_LEVEL = 7
# The same numbers in a block without expansion, which lacks the first two.
BLOCK = {
    "expand": "conv_pw",
    "expand_norm": "bn1",
    "depthwise": "conv_dw",
    "depthwise_norm": "bn2",
    "squeeze_excite.reduce": "se.fc1",
    "squeeze_excite.expand": "se.fc2",
    "project": "conv_pw1",
    "project_norm": "bn3",
}


def _node(config: Config, cell: int, index: int) -> NodePaths:
    top_down, level = len(config.levels) - 1, cell_nodes(config, cell)[index].level - config.min_level
    # Projections are listed from the highest level down for the top-down path, and upwards for the other.
    up = index < top_down
    path, number = ("up", index) if up else ("out", index - top_down)
    projection = f"bifpn.{cell}." + (f"downsample_1.{top_down - level}" if up else f"downsample_2.{level}")
    return NodePaths(
        convolution=f"bifpn.{cell}.p_{path}_convs.{number}",
        norm=f"bifpn.{cell}.p_{path}_convs.{number}.2",
        projections=[Projection(f"{projection}.0", f"{projection}.1")],
        edge_weights=f"bifpn.{cell}.fuse_{path}.{number}.weights",
    )


def _head(name: str) -> HeadPaths:
    return HeadPaths(
        predict=f"{name}_head_conv",
        convolution=lambda repeat: f"{name}_convs.{repeat}",
        norm=lambda repeat, place: f"{name}_norms.{place}.{repeat}",
    )


def _unused(config: Config) -> dict[str, tuple[int, ...]]:
    if config.fusion == "fastattn":
        return {}
    return {
        _node(config, cell, index).edge_weights: (len(node.inputs),)
        for cell in range(config.fpn_cells)
        for index, node in enumerate(cell_nodes(config, cell))
    }


def _lacks_bias(key: str) -> bool:
    """A BiFPN node's pointwise convolution and its projections; the norm behind them takes a bias away again."""
    return key.startswith("bifpn.cells.") and key.endswith((".conv.pointwise.bias", ".conv.bias"))


def _functions(config: Config) -> Modules:
    for index, path in enumerate(by_stage(config)):
        yield f"backbone.blocks.{index}", f"encoder.blocks.{path}"
    for level in extra_levels(config):
        yield f"bifpn.extra_levels.{level}", f"pyramid{level}"
    for cell in range(config.fpn_cells):
        for index in range(len(cell_nodes(config, cell))):
            # Its fusion ends with the activation.
            fusion = _node(config, cell, index).edge_weights.removesuffix(".weights")
            yield f"bifpn.cells.{cell}.nodes.{index}.activation", fusion


PATHS = Paths(
    stem=Projection("encoder.conv_stem", "encoder.bn1"),
    block=BLOCK,
    unexpanded=BLOCK,
    separable={"depthwise": "0", "pointwise": "1"},
    blocks=lambda config: [f"encoder.blocks.{path}" for path in by_stage(config)],
    extra_level=lambda config, level: Projection(f"pyramid{level}.0", f"pyramid{level}.1"),
    node=_node,
    class_head=_head("cls"),
    box_head=_head("box"),
)
PYTORCH_TOOLS = Naming(
    "pytorch-tools",
    "bonlime/pytorch-tools",
    partial(modules, PATHS),
    partial(vectors, PATHS),
    signs=("encoder.conv_stem.weight", "cls_head_conv.1.bias"),
    class_outputs="cls_head_conv.1.bias",
    models=lambda config: config.squeeze_excite and config.max_level == HIGHEST_LEVEL,
    unused=_unused,
    lacks_bias=_lacks_bias,
    epsilon=1e-5,
    functions=_functions,
)
