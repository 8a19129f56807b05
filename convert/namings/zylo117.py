"""zylo117/Yet-Another-EfficientDet-Pytorch: compound 0 to 6 are D0 to D6, 7 is D7, 8 is D7x; it has no Lite.

Source: its `efficientdet/model.py: BiFPN, Regressor, Classifier` and `efficientnet/model.py`.
"""

from ...effdet_torch.architecture import blocks, cell_nodes, extra_levels
from ...effdet_torch.config import Config
from .naming import Modules, Naming

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
SEPARABLE = {"depthwise": "depthwise_conv.conv", "pointwise": "pointwise_conv.conv"}


def node_names(config: Config, cell: int) -> list[tuple[str, str]]:
    """(name of its convolution, name of its edge weights) of each node of a BiFPN cell."""
    nodes = cell_nodes(config, cell)
    top_down = len(config.levels) - 1
    return [
        (f"conv{node.level}_up", f"p{node.level}_w1")
        if index < top_down
        else (f"conv{node.level}_down", f"p{node.level}_w2")
        for index, node in enumerate(nodes)
    ]


def _modules(config: Config) -> Modules:
    backbone = "backbone_net.model."
    yield "backbone.stem.conv", f"{backbone}_conv_stem.conv"
    yield "backbone.stem.norm", f"{backbone}_bn0"
    for index in range(len(blocks(config))):
        for ours, theirs in BLOCK.items():
            yield f"backbone.blocks.{index}.{ours}", f"{backbone}_blocks.{index}.{theirs}"
    for level in extra_levels(config):
        yield f"bifpn.extra_levels.{level}.conv", f"bifpn.0.p{level - 1}_to_p{level}.0.conv"
        yield f"bifpn.extra_levels.{level}.norm", f"bifpn.0.p{level - 1}_to_p{level}.1"
    for cell in range(config.fpn_cells):
        for index, (node, (conv, _)) in enumerate(zip(cell_nodes(config, cell), node_names(config, cell), strict=True)):
            ours = f"bifpn.cells.{cell}.nodes.{index}"
            for inner, name in SEPARABLE.items():
                yield f"{ours}.conv.{inner}", f"bifpn.{cell}.{conv}.{name}"
            yield f"{ours}.norm", f"bifpn.{cell}.{conv}.bn"
            # Only a node's own level may need another width; the bottom-up path projects it once more.
            again = "" if conv.endswith("_up") else "_2"
            yield f"{ours}.resamples.0.conv", f"bifpn.{cell}.p{node.level}_down_channel{again}.0.conv"
            yield f"{ours}.resamples.0.norm", f"bifpn.{cell}.p{node.level}_down_channel{again}.1"
    for kind, head in (("class", "classifier"), ("box", "regressor")):
        for inner, name in SEPARABLE.items():
            yield f"{kind}_head.predict.{inner}", f"{head}.header.{name}"
            for repeat in range(config.head_repeats):
                yield f"{kind}_head.convs.{repeat}.{inner}", f"{head}.conv_list.{repeat}.{name}"
        for repeat in range(config.head_repeats):
            for index, level in enumerate(config.levels):
                yield f"{kind}_head.norms.{repeat}.{level}", f"{head}.bn_list.{index}.{repeat}"


def _vectors(config: Config) -> Modules:
    for cell in range(config.fpn_cells):
        for index, (_, weights) in enumerate(node_names(config, cell)):
            yield f"bifpn.cells.{cell}.nodes.{index}.fuse.edge_weights", f"bifpn.{cell}.{weights}"


def _unused(config: Config) -> dict[str, tuple[int, ...]]:
    if config.fusion == "fastattn":
        return {}
    # Its class makes those of five levels, whatever it computes with.
    return {f"bifpn.{cell}.{name}": (count,) for cell in range(config.fpn_cells) for name, count in UNUSED.items()}


ZYLO117 = Naming(
    "zylo117",
    "zylo117/Yet-Another-EfficientDet-Pytorch",
    _modules,
    _vectors,
    signs=("backbone_net.model._conv_stem.conv.weight", "classifier.header.pointwise_conv.conv.bias"),
    models=lambda config: config.squeeze_excite,
    unused=_unused,
    notice="its own network pads max-pooling with zeros; effconv's, as TensorFlow's, with minus infinity",
)
