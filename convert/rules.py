"""The mapping between an official checkpoint and our state dict: one literal row per tensor.

`rules(config)` writes every row out, so nothing is matched by pattern when converting. The expanded tables of all
official models are golden files in `tests/golden/rules/`. Official names come from google/automl
`tf2/efficientdet_keras.py` and `backbone/efficientnet_model.py` (TF1 and `.h5`) and from the attribute names of the
same classes (Keras object graph).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..effdet_torch.architecture import (
    Block,
    Node,
    backbone_channels,
    blocks,
    cell_nodes,
    extra_levels,
    stem_channels,
)
from ..effdet_torch.config import Config
from .layout import Layout

Shape = tuple[int, ...]
OBJECT_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class Rule(NamedTuple):
    """One tensor under all its names. `shape` is TensorFlow's."""

    tf: str  # variable in a TF1 checkpoint
    object_path: str  # the same in a Keras object checkpoint, without its suffix
    torch: str  # key in the state dict
    shape: Shape
    layout: Layout = Layout.AS_IS

    @property
    def object_key(self) -> str:
        """The key in a TF2/Keras object checkpoint."""
        return self.object_path + OBJECT_SUFFIX

    @property
    def h5_path(self) -> str:
        """The dataset path in a Keras `.h5` file: the top layer's group, then the full variable name."""
        return f"/{self.tf.split('/')[0]}/{self.tf}:0"


class Scope(NamedTuple):
    """One module under its three names."""

    tf: str
    object_path: str
    torch: str

    def at(self, tf: str, object_path: str, torch: str) -> "Scope":
        """A module inside this one."""
        return Scope(f"{self.tf}/{tf}", f"{self.object_path}/{object_path}", f"{self.torch}.{torch}")

    def rule(self, tf: str, torch: str, shape: Shape, layout: Layout = Layout.AS_IS) -> Rule:
        """A tensor of this module."""
        return Rule(f"{self.tf}/{tf}", f"{self.object_path}/{tf}", f"{self.torch}.{torch}", shape, layout)


def rules(config: Config) -> tuple[Rule, ...]:
    """Every tensor of the model `config` describes, in the order of our state dict."""
    return tuple(_model(config))


def as_text(table: Sequence[Rule]) -> str:
    """The table as people review it: TF1 name, Keras object path, state dict key, TensorFlow shape, axis move."""
    return "".join(
        f"{rule.tf}  {rule.object_path}  {rule.torch}  {list(rule.shape)}  {rule.layout.value}\n" for rule in table
    )


def _model(config: Config) -> Iterator[Rule]:
    backbone = Scope(config.backbone, "backbone", "backbone")
    yield from _stem(backbone, stem_channels(config))
    for index, block in enumerate(blocks(config)):
        yield from _block(backbone.at(f"blocks_{index}", f"_blocks/{index}", f"blocks.{index}"), block)
    inputs = backbone_channels(config)[-1]
    for index, level in enumerate(extra_levels(config)):
        scope = Scope(f"resample_p{level}", f"resample_layers/{index}", f"bifpn.extra_levels.{level}")
        yield from _resample(scope, inputs, config.fpn_channels)
        inputs = config.fpn_channels
    for cell in range(config.fpn_cells):
        for index, node in enumerate(cell_nodes(config, cell)):
            tf, torch = f"fpn_cells/cell_{cell}/fnode{index}", f"bifpn.cells.{cell}.nodes.{index}"
            scope = Scope(tf, f"fpn_cells/cells/{cell}/fnodes/{index}", torch)
            yield from _node(scope, node, len(config.levels) + index, config)
    yield from _head("class", "classes", config, config.num_anchors * config.num_classes)
    yield from _head("box", "boxes", config, config.num_anchors * 4)


def _norm(scope: Scope, channels: int) -> Iterator[Rule]:
    for tf, torch in NORM.items():
        yield scope.rule(tf, torch, (channels,))


def _conv(scope: Scope, kernel: int, inputs: int, outputs: int, *, bias: bool) -> Iterator[Rule]:
    yield scope.rule("kernel", "weight", (kernel, kernel, inputs, outputs), Layout.HWIO_TO_OIHW)
    if bias:
        yield scope.rule("bias", "bias", (outputs,))


def _separable(scope: Scope, inputs: int, outputs: int) -> Iterator[Rule]:
    yield scope.rule("depthwise_kernel", "depthwise.weight", (3, 3, inputs, 1), Layout.HWCM_TO_CMHW)
    yield scope.rule("pointwise_kernel", "pointwise.weight", (1, 1, inputs, outputs), Layout.HWIO_TO_OIHW)
    yield scope.rule("bias", "pointwise.bias", (outputs,))


def _stem(backbone: Scope, channels: int) -> Iterator[Rule]:
    stem = backbone.at("stem", "_stem", "stem")
    yield from _conv(stem.at("conv2d", "_conv_stem", "conv"), 3, 3, channels, bias=False)
    yield from _norm(stem.at("tpu_batch_normalization", "_bn", "norm"), channels)


def _block(scope: Scope, block: Block) -> Iterator[Rule]:
    # TF1 numbers a block's layers in the order they were made, so names shift when there is no expansion.
    convs = iter(("conv2d", "conv2d_1"))
    norms = iter(("tpu_batch_normalization", "tpu_batch_normalization_1", "tpu_batch_normalization_2"))
    if block.expands:
        conv = scope.at(next(convs), "_expand_conv", "expand")
        yield from _conv(conv, 1, block.input_channels, block.hidden, bias=False)
        yield from _norm(scope.at(next(norms), "_bn0", "expand_norm"), block.hidden)
    depthwise = scope.at("depthwise_conv2d", "_depthwise_conv", "depthwise")
    shape = (block.kernel, block.kernel, block.hidden, 1)
    yield depthwise.rule("depthwise_kernel", "weight", shape, Layout.HWCM_TO_CMHW)
    yield from _norm(scope.at(next(norms), "_bn1", "depthwise_norm"), block.hidden)
    if block.squeezed:
        gate = scope.at("se", "_se", "squeeze_excite")
        yield from _conv(gate.at("conv2d", "_se_reduce", "reduce"), 1, block.hidden, block.squeezed, bias=True)
        yield from _conv(gate.at("conv2d_1", "_se_expand", "expand"), 1, block.squeezed, block.hidden, bias=True)
    project = scope.at(next(convs), "_project_conv", "project")
    yield from _conv(project, 1, block.hidden, block.output_channels, bias=False)
    yield from _norm(scope.at(next(norms), "_bn2", "project_norm"), block.output_channels)


def _resample(scope: Scope, inputs: int, outputs: int) -> Iterator[Rule]:
    if inputs != outputs:
        yield from _conv(scope.at("conv2d", "conv2d", "conv"), 1, inputs, outputs, bias=True)
        yield from _norm(scope.at("bn", "bn", "norm"), outputs)


def _node(scope: Scope, node: Node, features: int, config: Config) -> Iterator[Rule]:
    # `features` is how many feature maps the cell holds before this node; official names carry it.
    channels = config.fpn_channels
    for index, (source, inputs) in enumerate(zip(node.inputs, node.input_channels, strict=True)):
        tf = f"resample_{index}_{source}_{features}"
        yield from _resample(scope.at(tf, f"resample_layers/{index}", f"resamples.{index}"), inputs, channels)
    if config.fusion == "fastattn":
        for index in range(len(node.inputs)):
            yield scope.rule("WSM" if index == 0 else f"WSM_{index}", f"fuse.edge_weights.{index}", ())
    # The official class OpAfterCombine is no module of ours.
    combine = Scope(f"{scope.tf}/op_after_combine{features}", f"{scope.object_path}/op_after_combine", scope.torch)
    yield from _separable(combine.at("conv", "conv_op", "conv"), channels, channels)
    yield from _norm(combine.at("bn", "bn", "norm"), channels)


def _head(kind: str, predict: str, config: Config, outputs: int) -> Iterator[Rule]:
    channels = config.fpn_channels
    head = Scope(f"{kind}_net", f"{kind}_net", f"{kind}_head")
    for repeat in range(config.head_repeats):
        conv = head.at(f"{kind}-{repeat}", f"conv_ops/{repeat}", f"convs.{repeat}")
        yield from _separable(conv, channels, channels)
    for repeat in range(config.head_repeats):
        for index, level in enumerate(config.levels):
            tf, path = f"{kind}-{repeat}-bn-{level}", f"bns/{repeat}/{index}"
            yield from _norm(head.at(tf, path, f"norms.{repeat}.{level}"), channels)
    yield from _separable(head.at(f"{kind}-predict", predict, "predict"), channels, outputs)
