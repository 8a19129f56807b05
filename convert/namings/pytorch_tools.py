"""bonlime/pytorch-tools: D0 to D6.

Source: its `pytorch_tools/detection_models/efficientdet.py`, `modules/bifpn.py` and `models/efficientnet.py`.
"""

from ...effdet_torch.architecture import cell_nodes, extra_levels
from ...effdet_torch.config import Config
from .effdet import stage_and_repeat
from .naming import Modules, Naming

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
SEPARABLE = {"depthwise": "0", "pointwise": "1"}
LEVELS = (3, 4, 5, 6, 7)


def _modules(config: Config) -> Modules:
    yield "backbone.stem.conv", "encoder.conv_stem"
    yield "backbone.stem.norm", "encoder.bn1"
    for index, (stage, repeat) in enumerate(stage_and_repeat(config)):
        for ours, theirs in BLOCK.items():
            yield f"backbone.blocks.{index}.{ours}", f"encoder.blocks.{stage}.{repeat}.{theirs}"
    for level in extra_levels(config):
        yield f"bifpn.extra_levels.{level}.conv", f"pyramid{level}.0"
        yield f"bifpn.extra_levels.{level}.norm", f"pyramid{level}.1"
    for cell in range(config.fpn_cells):
        for index, node in enumerate(cell_nodes(config, cell)):
            ours, path, number = f"bifpn.cells.{cell}.nodes.{index}", *_path(config, index)
            for inner, name in SEPARABLE.items():
                yield f"{ours}.conv.{inner}", f"bifpn.{cell}.p_{path}_convs.{number}.{name}"
            yield f"{ours}.norm", f"bifpn.{cell}.p_{path}_convs.{number}.2"
            # Projections are listed from the highest level down for the top-down path, and upwards for the other.
            source = node.level - config.min_level
            listed = f"downsample_1.{len(config.levels) - 1 - source}" if path == "up" else f"downsample_2.{source}"
            yield f"{ours}.resamples.0.conv", f"bifpn.{cell}.{listed}.0"
            yield f"{ours}.resamples.0.norm", f"bifpn.{cell}.{listed}.1"
    for kind, head in (("class", "cls"), ("box", "box")):
        for inner, name in SEPARABLE.items():
            yield f"{kind}_head.predict.{inner}", f"{head}_head_conv.{name}"
            for repeat in range(config.head_repeats):
                yield f"{kind}_head.convs.{repeat}.{inner}", f"{head}_convs.{repeat}.{name}"
        for repeat in range(config.head_repeats):
            for index, level in enumerate(config.levels):
                yield f"{kind}_head.norms.{repeat}.{level}", f"{head}_norms.{index}.{repeat}"


def _path(config: Config, index: int) -> tuple[str, int]:
    """("up", number) of a node of the top-down path, ("out", number) of the bottom-up one."""
    top_down = len(config.levels) - 1
    return ("up", index) if index < top_down else ("out", index - top_down)


def _vectors(config: Config) -> Modules:
    for cell in range(config.fpn_cells):
        for index in range(len(cell_nodes(config, cell))):
            path, number = _path(config, index)
            yield f"bifpn.cells.{cell}.nodes.{index}.fuse.edge_weights", f"bifpn.{cell}.fuse_{path}.{number}.weights"


def _unused(config: Config) -> dict[str, tuple[int, ...]]:
    if config.fusion == "fastattn":
        return {}
    inputs = [len(node.inputs) for node in cell_nodes(config, 0)]
    return {
        f"bifpn.{cell}.fuse_{path}.{number}.weights": (count,)
        for cell in range(config.fpn_cells)
        for index, count in enumerate(inputs)
        for path, number in [_path(config, index)]
    }


def _lacks_bias(key: str) -> bool:
    """A BiFPN node's pointwise convolution and its projections; the norm behind them takes a bias away again."""
    return key.startswith("bifpn.cells.") and key.endswith((".conv.pointwise.bias", ".conv.bias"))


PYTORCH_TOOLS = Naming(
    "pytorch-tools",
    "bonlime/pytorch-tools",
    _modules,
    _vectors,
    signs=("encoder.conv_stem.weight", "cls_head_conv.1.bias"),
    models=lambda config: config.squeeze_excite and config.max_level == LEVELS[-1],
    unused=_unused,
    lacks_bias=_lacks_bias,
    epsilon=1e-5,
)
