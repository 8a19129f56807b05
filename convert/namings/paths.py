"""How a port calls the modules of a network, and the walk over a network that pairs its paths with ours."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ...effdet_torch.architecture import blocks, cell_nodes, extra_levels
from ...effdet_torch.config import Config

Modules = Iterator[tuple[str, str]]  # (path of our module, path of theirs)


class Projection(NamedTuple):
    """The 1x1 convolution and the norm that bring a map to the BiFPN's width."""

    convolution: str
    norm: str


class NodePaths(NamedTuple):
    """One node of a BiFPN cell. `projections` are of its inputs in order, as far as any may need one."""

    convolution: str  # separable
    norm: str
    projections: Sequence[Projection]
    edge_weights: str  # key of the vector


class HeadPaths(NamedTuple):
    """A head: its separable convolutions, and its norms by repeat and by the place of the level, lowest first."""

    predict: str
    convolution: Callable[[int], str]
    norm: Callable[[int, int], str]


class Paths(NamedTuple):
    """All of a port's. What differs between models is a function of the configuration."""

    stem: Projection
    block: Mapping[str, str]  # our name -> theirs, in a block that expands
    unexpanded: Mapping[str, str]  # the same in one that does not
    separable: Mapping[str, str]  # the two parts of a separable convolution
    blocks: Callable[[Config], Sequence[str]]  # where each block of the backbone is
    extra_level: Callable[[Config, int], Projection]  # of levels from 6 up
    node: Callable[[Config, int, int], NodePaths]  # by cell and place in it
    class_head: HeadPaths
    box_head: HeadPaths


def modules(paths: Paths, config: Config) -> Modules:
    """Every module that has tensors of its own, and some that a model may lack."""
    yield from _projection("backbone.stem", paths.stem)
    for index, (block, path) in enumerate(zip(blocks(config), paths.blocks(config), strict=True)):
        for ours, theirs in (paths.block if block.expands else paths.unexpanded).items():
            yield f"backbone.blocks.{index}.{ours}", f"{path}.{theirs}"
    for level in extra_levels(config):
        yield from _projection(f"bifpn.extra_levels.{level}", paths.extra_level(config, level))
    for ours, node in _nodes(paths, config):
        yield from _separable(f"{ours}.conv", paths, node.convolution)
        yield f"{ours}.norm", node.norm
        for position, projection in enumerate(node.projections):
            yield from _projection(f"{ours}.resamples.{position}", projection)
    for kind, head in (("class_head", paths.class_head), ("box_head", paths.box_head)):
        yield from _separable(f"{kind}.predict", paths, head.predict)
        for repeat in range(config.head_repeats):
            yield from _separable(f"{kind}.convs.{repeat}", paths, head.convolution(repeat))
            for place, level in enumerate(config.levels):
                yield f"{kind}.norms.{repeat}.{level}", head.norm(repeat, place)


def vectors(paths: Paths, config: Config) -> Modules:
    """(path of our list of scalars, key of their vector) of every node's edge weights."""
    return ((f"{ours}.fuse.edge_weights", node.edge_weights) for ours, node in _nodes(paths, config))


def _nodes(paths: Paths, config: Config) -> Iterator[tuple[str, NodePaths]]:
    for cell in range(config.fpn_cells):
        for index in range(len(cell_nodes(config, cell))):
            yield f"bifpn.cells.{cell}.nodes.{index}", paths.node(config, cell, index)


def _projection(ours: str, theirs: Projection) -> Modules:
    yield f"{ours}.conv", theirs.convolution
    yield f"{ours}.norm", theirs.norm


def _separable(ours: str, paths: Paths, theirs: str) -> Modules:
    return ((f"{ours}.{inner}", f"{theirs}.{name}") for inner, name in paths.separable.items())
