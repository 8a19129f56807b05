"""effdet (rwightman/efficientdet-pytorch), its `tf_efficientdet_*` models, with timm's EfficientNet as backbone.

Source: effdet `effdet/efficientdet.py` and `factory.py`, timm `models/_efficientnet_blocks.py`.
"""

from ...effdet_torch.architecture import blocks, cell_nodes, extra_levels, stage_repeats
from ...effdet_torch.config import Config
from .naming import Modules, Naming

EXPANDING = {
    "expand": "conv_pw",
    "expand_norm": "bn1",
    "depthwise": "conv_dw",
    "depthwise_norm": "bn2",
    "project": "conv_pwl",
    "project_norm": "bn3",
}
PLAIN = {"depthwise": "conv_dw", "depthwise_norm": "bn1", "project": "conv_pw", "project_norm": "bn2"}
GATE = {"squeeze_excite.reduce": "se.conv_reduce", "squeeze_excite.expand": "se.conv_expand"}
SEPARABLE = {"depthwise": "conv_dw", "pointwise": "conv_pw"}


def stage_and_repeat(config: Config) -> list[tuple[int, int]]:
    """(stage, repeat) of each block of the backbone."""
    return [(stage, repeat) for stage, count in enumerate(stage_repeats(config)) for repeat in range(count)]


def _modules(config: Config) -> Modules:
    yield "backbone.stem.conv", "backbone.conv_stem"
    yield "backbone.stem.norm", "backbone.bn1"
    for index, (block, (stage, repeat)) in enumerate(zip(blocks(config), stage_and_repeat(config), strict=True)):
        for ours, theirs in ((EXPANDING if block.expands else PLAIN) | GATE).items():
            yield f"backbone.blocks.{index}.{ours}", f"backbone.blocks.{stage}.{repeat}.{theirs}"
    for level in extra_levels(config):
        resample = f"fpn.resample.{level - config.min_level}.conv"
        yield f"bifpn.extra_levels.{level}.conv", f"{resample}.conv"
        yield f"bifpn.extra_levels.{level}.norm", f"{resample}.bn"
    for cell in range(config.fpn_cells):
        for index, node in enumerate(cell_nodes(config, cell)):
            ours, theirs = f"bifpn.cells.{cell}.nodes.{index}", f"fpn.cell.{cell}.fnode.{index}"
            for position, source in enumerate(node.inputs):
                resample = f"{theirs}.combine.resample.{source}.conv"
                yield f"{ours}.resamples.{position}.conv", f"{resample}.conv"
                yield f"{ours}.resamples.{position}.norm", f"{resample}.bn"
            for inner, name in SEPARABLE.items():
                yield f"{ours}.conv.{inner}", f"{theirs}.after_combine.conv.{name}"
            yield f"{ours}.norm", f"{theirs}.after_combine.conv.bn"
    for kind in ("class", "box"):
        for inner, name in SEPARABLE.items():
            yield f"{kind}_head.predict.{inner}", f"{kind}_net.predict.{name}"
            for repeat in range(config.head_repeats):
                yield f"{kind}_head.convs.{repeat}.{inner}", f"{kind}_net.conv_rep.{repeat}.{name}"
        for repeat in range(config.head_repeats):
            for index, level in enumerate(config.levels):
                yield f"{kind}_head.norms.{repeat}.{level}", f"{kind}_net.bn_rep.{repeat}.{index}.bn"


def _vectors(config: Config) -> Modules:
    for cell in range(config.fpn_cells):
        for index in range(len(cell_nodes(config, cell))):
            ours = f"bifpn.cells.{cell}.nodes.{index}.fuse.edge_weights"
            yield ours, f"fpn.cell.{cell}.fnode.{index}.combine.edge_weights"


EFFDET = Naming(
    "effdet",
    "effdet (timm)",
    _modules,
    _vectors,
    signs=("backbone.conv_stem.weight", "class_net.predict.conv_pw.bias"),
    models=lambda config: True,
)
