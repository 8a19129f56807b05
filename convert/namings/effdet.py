"""effdet (rwightman/efficientdet-pytorch), its `tf_efficientdet_*` models, with timm's EfficientNet as backbone.

A network built with `head_bn_level_first`, or turned by `toggle_head_bn_level_first`, keeps its heads' norms by level
and then by repeat, where others keep them by repeat and then by level. It computes the same.

Source: effdet `effdet/efficientdet.py: HeadNet` and `factory.py`, timm `models/_efficientnet_blocks.py`.
"""

from collections.abc import Mapping
from functools import partial

from ...effdet_torch.architecture import blocks, cell_nodes, extra_levels, stage_repeats
from ...effdet_torch.config import Config
from .naming import Naming
from .paths import HeadPaths, Modules, NodePaths, Paths, Projection, modules, vectors

GATE = {"squeeze_excite.reduce": "se.conv_reduce", "squeeze_excite.expand": "se.conv_expand"}
EXPANDING = {
    "expand": "conv_pw",
    "expand_norm": "bn1",
    "depthwise": "conv_dw",
    "depthwise_norm": "bn2",
    "project": "conv_pwl",
    "project_norm": "bn3",
}
PLAIN = {"depthwise": "conv_dw", "depthwise_norm": "bn1", "project": "conv_pw", "project_norm": "bn2"}


def by_stage(config: Config) -> list[str]:
    """ "STAGE.REPEAT" of each block of the backbone."""
    return [f"{stage}.{repeat}" for stage, count in enumerate(stage_repeats(config)) for repeat in range(count)]


def _node(config: Config, cell: int, index: int) -> NodePaths:
    node = f"fpn.cell.{cell}.fnode.{index}"
    inputs = [f"{node}.combine.resample.{source}.conv" for source in cell_nodes(config, cell)[index].inputs]
    return NodePaths(
        convolution=f"{node}.after_combine.conv",
        norm=f"{node}.after_combine.conv.bn",
        projections=[Projection(f"{resample}.conv", f"{resample}.bn") for resample in inputs],
        edge_weights=f"{node}.combine.edge_weights",
    )


def _extra_level(config: Config, level: int) -> Projection:
    resample = f"fpn.resample.{level - config.min_level}.conv"
    return Projection(f"{resample}.conv", f"{resample}.bn")


def _head(name: str) -> HeadPaths:
    return HeadPaths(
        predict=f"{name}.predict",
        convolution=lambda repeat: f"{name}.conv_rep.{repeat}",
        norm=lambda repeat, place: f"{name}.bn_rep.{repeat}.{place}.bn",
    )


def _level_first(name: str) -> HeadPaths:
    return _head(name)._replace(norm=lambda repeat, place: f"{name}.bn_rep.{place}.{repeat}")


def _functions(config: Config) -> Modules:
    for index, (block, path) in enumerate(zip(blocks(config), by_stage(config), strict=True)):
        yield f"backbone.blocks.{index}", f"backbone.blocks.{path}"
        if block.squeezed:
            yield f"backbone.blocks.{index}.squeeze_excite", f"backbone.blocks.{path}.se"
    for level in extra_levels(config):
        yield f"bifpn.extra_levels.{level}", f"fpn.resample.{level - config.min_level}"
    for cell in range(config.fpn_cells):
        for index, node in enumerate(cell_nodes(config, cell)):
            ours, theirs = f"bifpn.cells.{cell}.nodes.{index}", f"fpn.cell.{cell}.fnode.{index}"
            for position, source in enumerate(node.inputs):
                yield f"{ours}.resamples.{position}", f"{theirs}.combine.resample.{source}"
            yield f"{ours}.fuse", f"{theirs}.combine"
            yield f"{ours}.activation", f"{theirs}.after_combine.act"


def _stranger(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Which of effdet's other networks a file is of, under the same names, and what that computes otherwise."""
    for start, what in OTHERS:
        if any(key.startswith(start) for key in shapes):
            return what
    redundant = [key for key in shapes if key.startswith("fpn.cell.") and key.endswith(".conv_pw.bias")]
    return "" if redundant else SYMMETRIC


# (how a key begins that no `tf_efficientdet_*` has, whose it is)
OTHERS = (
    ("fpn.cell.0.fnode.10.", "effdet's efficientdet_q*, whose fusion is a QuadFPN: another network"),
    ("backbone.blocks.1.0.conv_exp.", "effdet's efficientdetv2_*, whose backbone is EfficientNetV2: another network"),
)
SYMMETRIC = (
    "effdet's models without tf_ in their name (expected a bias fpn.cell. ... .conv_pw.bias, found none), which pad "
    "symmetrically where TensorFlow pads at the bottom and right: another function"
)
PATHS = Paths(
    stem=Projection("backbone.conv_stem", "backbone.bn1"),
    block=EXPANDING | GATE,
    unexpanded=PLAIN | GATE,
    separable={"depthwise": "conv_dw", "pointwise": "conv_pw"},
    blocks=lambda config: [f"backbone.blocks.{path}" for path in by_stage(config)],
    extra_level=_extra_level,
    node=_node,
    class_head=_head("class_net"),
    box_head=_head("box_net"),
)
EFFDET = Naming(
    "effdet",
    "effdet (timm)",
    partial(modules, PATHS),
    partial(vectors, PATHS),
    signs=("class_net.bn_rep.0.0.bn.weight", "box_net.bn_rep.0.0.bn.weight"),
    class_outputs="class_net.predict.conv_pw.bias",
    models=lambda config: True,
    functions=_functions,
    stranger=_stranger,
)
LEVEL_FIRST_PATHS = PATHS._replace(class_head=_level_first("class_net"), box_head=_level_first("box_net"))
EFFDET_LEVEL_FIRST = EFFDET._replace(
    name="effdet-level-first",
    port="effdet (timm), its heads' norms level-first",
    modules=partial(modules, LEVEL_FIRST_PATHS),
    vectors=partial(vectors, LEVEL_FIRST_PATHS),
    signs=("class_net.bn_rep.0.0.weight", "box_net.bn_rep.0.0.weight"),
)
