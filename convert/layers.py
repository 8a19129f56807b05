"""Every layer of the network under our name and the official ones: the rule table's counterpart for activations.

Official names are of two kinds: endpoints, which google/automl's code itself names (as recorded in traces of it), and
operations of its graph. A layer whose operation has no fixed name is known by the operation that consumes it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..effdet_torch.architecture import (
    BACKBONE_LEVELS,
    Node,
    backbone_channels,
    blocks,
    cell_nodes,
    extra_levels,
    reductions,
)
from ..effdet_torch.config import Config


class Layer(NamedTuple):
    """One activation, (B, H, W, C) in TensorFlow and (B, C, H, W) in PyTorch."""

    module: str  # path of our module whose output it is
    level: int | None = None  # tells apart the calls of a module that all levels share
    endpoints: tuple[str, ...] = ()  # names the official code gives it
    operation: str = ""  # operation of the official graph whose output it is
    consumer: str = ""  # operation of the official graph whose first input it is
    exact: bool = False  # only compared, copied, added, multiplied and divided: IEEE 754 fixes its float32 bits

    @property
    def key(self) -> str:
        """Our name for the activation."""
        return self.module if self.level is None else f"{self.module}[{self.level}]"

    @property
    def official(self) -> str:
        """The official name people know it by; empty where it has none."""
        names = (*self.endpoints, self.operation, self.consumer and f"input of {self.consumer}")
        return next((name for name in names if name), "")


def layers(config: Config) -> tuple[Layer, ...]:
    """Every layer of the model `config` describes, in the order it is computed."""
    return (*_backbone(config), *_bifpn(config), *_heads(config))


def _backbone(config: Config) -> Iterator[Layer]:
    rows, scope = blocks(config), config.backbone
    level_of = {end: level for level, end in enumerate(reductions(config), start=1)}

    def first_operation(index: int) -> str:
        if index == len(rows):
            return "resample_p6/conv2d/Conv2D" if extra_levels(config) else ""
        return f"{scope}/blocks_{index}/" + ("conv2d/Conv2D" if rows[index].expands else "depthwise_conv2d/depthwise")

    yield Layer("backbone.stem.conv", operation=f"{scope}/stem/conv2d/Conv2D")
    yield Layer("backbone.stem.norm", endpoints=("backbone/stem",), consumer=first_operation(0))
    for index, block in enumerate(rows):
        ours, theirs = f"backbone.blocks.{index}", f"{scope}/blocks_{index}"
        names = [f"backbone/block_{index}"]
        if index in level_of:
            names.append(f"backbone/reduction_{level_of[index]}")
        depthwise = f"{theirs}/depthwise_conv2d/depthwise"
        project = f"{theirs}/conv2d{'_1' if block.expands else ''}/Conv2D"
        norm = f"{theirs}/tpu_batch_normalization{'_2' if block.expands else '_1'}/FusedBatchNormV3"
        if block.expands:
            yield Layer(f"{ours}.expand", operation=f"{theirs}/conv2d/Conv2D")
            yield Layer(f"{ours}.expand_norm", consumer=depthwise)
        yield Layer(f"{ours}.depthwise", operation=depthwise)
        yield Layer(f"{ours}.depthwise_norm", consumer=f"{theirs}/se/Mean" if block.squeezed else project)
        if block.squeezed:
            yield Layer(f"{ours}.squeeze_excite.mean", operation=f"{theirs}/se/Mean")
            yield Layer(f"{ours}.squeeze_excite.reduce", operation=f"{theirs}/se/conv2d/BiasAdd")
            yield Layer(f"{ours}.squeeze_excite.expand", operation=f"{theirs}/se/conv2d_1/BiasAdd")
        # Official name for what enters the projection: after depthwise, norm, activation and squeeze-excite.
        inner = tuple(f"{name}/expansion_output" for name in names)
        yield Layer(f"{ours}.squeeze_excite", endpoints=inner, consumer=project)
        yield Layer(f"{ours}.project", operation=project)
        yield Layer(f"{ours}.project_norm", operation=norm)
        if level_of.get(index) == BACKBONE_LEVELS:
            names.append("backbone/features")
        yield Layer(ours, endpoints=tuple(names), consumer=first_operation(index + 1), exact=True)


def _bifpn(config: Config) -> Iterator[Layer]:
    inputs = backbone_channels(config)[-1]
    for level in extra_levels(config):
        projects = inputs != config.fpn_channels
        yield from _resample(f"resample_p{level}", f"bifpn.extra_levels.{level}", projects, "max_pooling2d/MaxPool")
        inputs = config.fpn_channels
    for cell in range(config.fpn_cells):
        nodes = cell_nodes(config, cell)
        levels = [*config.levels, *(node.level for node in nodes)]  # of the cell's inputs, then its nodes
        for index, node in enumerate(nodes):
            yield from _node(f"fpn_cells/cell_{cell}/fnode{index}", cell, index, node, levels, config)


def _node(theirs: str, cell: int, index: int, node: Node, levels: list[int], config: Config) -> Iterator[Layer]:
    ours = f"bifpn.cells.{cell}.nodes.{index}"
    features = len(config.levels) + index  # how many feature maps the cell holds before this node; names carry it
    for place, (source, inputs) in enumerate(zip(node.inputs, node.input_channels, strict=True)):
        steps = {-1: "max_pooling2d/MaxPool", 0: "", 1: "ResizeNearestNeighbor"}
        step = steps[(levels[source] > node.level) - (levels[source] < node.level)]
        resample = f"{theirs}/resample_{place}_{source}_{features}"
        yield from _resample(resample, f"{ours}.resamples.{place}", inputs != config.fpn_channels, step)
    combine = f"{theirs}/op_after_combine{features}"
    relu6 = f"{combine}/Relu6" if config.activation == "relu6" else ""
    depthwise = f"{combine}/conv/separable_conv2d/depthwise"
    yield Layer(f"{ours}.fuse", endpoints=(f"{theirs}/fused",), consumer=relu6, exact=True)
    yield Layer(f"{ours}.activation", operation=relu6, consumer=depthwise)
    yield Layer(f"{ours}.conv.depthwise", operation=depthwise)
    yield Layer(f"{ours}.conv.pointwise", operation=f"{combine}/conv/BiasAdd")
    yield Layer(f"{ours}.norm", endpoints=(f"{combine}/bn",), operation=f"{combine}/bn/FusedBatchNormV3")


def _resample(theirs: str, ours: str, projects: bool, step: str) -> Iterator[Layer]:
    norm = f"{theirs}/bn/FusedBatchNormV3" if projects else ""
    if projects:
        yield Layer(f"{ours}.conv", operation=f"{theirs}/conv2d/BiasAdd")
        yield Layer(f"{ours}.norm", endpoints=(f"{theirs}/bn",), operation=norm)
    yield Layer(ours, endpoints=(theirs,), operation=f"{theirs}/{step}" if step else norm, exact=True)


def _heads(config: Config) -> Iterator[Layer]:
    for kind in ("class", "box"):
        for place, level in enumerate(config.levels):
            # The official graph numbers the calls of a shared layer from the second on.
            call = f"_{place}" if place else ""
            operations = [f"{kind}_net/{kind}-{repeat}{call}" for repeat in (*range(config.head_repeats), "predict")]
            for repeat in range(config.head_repeats):
                theirs, following = operations[repeat], operations[repeat + 1]
                conv = f"{kind}_head.convs.{repeat}"
                yield Layer(f"{conv}.depthwise", level, operation=f"{theirs}/separable_conv2d/depthwise")
                yield Layer(f"{conv}.pointwise", level, operation=f"{theirs}/BiasAdd")
                yield Layer(
                    f"{kind}_head.norms.{repeat}.{level}",
                    endpoints=(f"{kind}_net/{kind}-{repeat}-bn-{level}",),
                    consumer=f"{following}/separable_conv2d/depthwise",
                )
            theirs = operations[-1]
            predict = f"{kind}_head.predict"
            yield Layer(f"{predict}.depthwise", level, operation=f"{theirs}/separable_conv2d/depthwise")
            yield Layer(predict, level, endpoints=(f"{kind}_outputs/{level}",), operation=f"{theirs}/BiasAdd")
