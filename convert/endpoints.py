"""Which of our modules computes which named activation of the official model: the rule table's counterpart for traces.

Official names are those of google/automl's endpoints and Keras layers, as recorded in traces of the official code.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..effdet_torch.architecture import BACKBONE_LEVELS, backbone_channels, blocks, cell_nodes, extra_levels, reductions
from ..effdet_torch.config import Config


class Endpoint(NamedTuple):
    """An activation under both names. `module` is our module's path; `level` tells apart the calls of a shared one."""

    tf: str
    module: str
    level: int | None = None

    @property
    def key(self) -> str:
        """Our name for the activation."""
        return self.module if self.level is None else f"{self.module}[{self.level}]"


def endpoints(config: Config) -> tuple[Endpoint, ...]:
    """Every activation that the official code names, in the order it is computed."""
    return (*_backbone(config), *_bifpn(config), *_heads(config))


def _backbone(config: Config) -> Iterator[Endpoint]:
    yield Endpoint("backbone/stem", "backbone.stem")
    level_of = {end: level for level, end in enumerate(reductions(config), start=1)}
    for index in range(len(blocks(config))):
        block = f"backbone.blocks.{index}"
        names = [f"backbone/block_{index}"]
        if index in level_of:
            names.append(f"backbone/reduction_{level_of[index]}")
        # Official name for what enters the projection: after depthwise, norm, activation and squeeze-excite.
        yield from (Endpoint(f"{name}/expansion_output", f"{block}.squeeze_excite") for name in names)
        yield from (Endpoint(name, block) for name in names)
    yield Endpoint("backbone/features", f"backbone.blocks.{reductions(config)[BACKBONE_LEVELS - 1]}")


def _bifpn(config: Config) -> Iterator[Endpoint]:
    inputs = backbone_channels(config)[-1]
    for level in extra_levels(config):
        yield from _resample(f"resample_p{level}", f"bifpn.extra_levels.{level}", inputs != config.fpn_channels)
        inputs = config.fpn_channels
    for cell in range(config.fpn_cells):
        for index, node in enumerate(cell_nodes(config, cell)):
            tf, ours = f"fpn_cells/cell_{cell}/fnode{index}", f"bifpn.cells.{cell}.nodes.{index}"
            features = len(config.levels) + index
            for place, (source, inputs) in enumerate(zip(node.inputs, node.input_channels, strict=True)):
                resample = f"{tf}/resample_{place}_{source}_{features}"
                yield from _resample(resample, f"{ours}.resamples.{place}", inputs != config.fpn_channels)
            yield Endpoint(f"{tf}/fused", f"{ours}.fuse")
            yield Endpoint(f"{tf}/op_after_combine{features}/bn", f"{ours}.norm")


def _resample(tf: str, ours: str, projects: bool) -> Iterator[Endpoint]:
    if projects:
        yield Endpoint(f"{tf}/bn", f"{ours}.norm")
    yield Endpoint(tf, ours)


def _heads(config: Config) -> Iterator[Endpoint]:
    for kind in ("class", "box"):
        for level in config.levels:
            for repeat in range(config.head_repeats):
                yield Endpoint(f"{kind}_net/{kind}-{repeat}-bn-{level}", f"{kind}_head.norms.{repeat}.{level}")
            yield Endpoint(f"{kind}_outputs/{level}", f"{kind}_head.predict", level)
