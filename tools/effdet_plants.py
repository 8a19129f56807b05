"""Faults to plant in effdet's own network, with the layer that is at fault and the known mistake it is, if it is one.

Each changes the network in place, as a port with that mistake would compute; layers have effconv's names.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plant(NamedTuple):
    """One fault."""

    what: str
    layer: str  # effconv's name of the first layer at fault
    change: str | None  # of `mistakes.network.CHANGES`; None: no known mistake
    make: Callable[[Any], None]


def _each(kind: str, change: Callable[[Any], None]) -> Callable[[Any], None]:
    """A change of every module of a class."""

    def make(network: nn.Module) -> None:
        for module in network.modules():
            if type(module).__name__ == kind:
                change(module)

    return make


def _epsilon(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5


def _one_epsilon(network: Any) -> None:
    network.backbone.blocks[2][0].bn3.eps = 1e-5


def _symmetric_convolutions(module: Any) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        padding = (self.kernel_size[0] - 1) // 2
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)

    module.forward = MethodType(forward, module)


def _pool(padding: str) -> Callable[[Any], None]:
    def forward(self: Any, x: Tensor) -> Tensor:
        if padding == "symmetric":
            return F.max_pool2d(x, 3, 2, 1)
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)  # of even sides: one more row and column, of zeros

    def change(module: Any) -> None:
        module.forward = MethodType(forward, module)

    return change


def _bilinear(module: Any) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)

    module.forward = MethodType(forward, module)


def _softmax(module: Any) -> None:
    module.weight_method = "attn"


def _no_fusion_epsilon(module: Any) -> None:
    def forward(self: Any, x: list[Tensor]) -> Tensor:
        nodes = [resample(x[at]) for at, resample in zip(self.inputs_offsets, self.resample.values(), strict=True)]
        weights = F.relu(self.edge_weights)
        total: Tensor = sum(node * weight / weights.sum() for node, weight in zip(nodes, weights, strict=True))
        return total

    module.forward = MethodType(forward, module)


def _exchanged_edges(network: Any) -> None:
    combine = network.fpn.cell[1].fnode[4].combine
    combine.edge_weights.data = combine.edge_weights.data.flip(0)


def _no_gate_bias(network: Any) -> None:
    for block in (block for stage in network.backbone.blocks for block in stage):
        block.se.conv_reduce.bias.data.zero_()
        block.se.conv_expand.bias.data.zero_()


def _gate_relu(network: Any) -> None:
    for block in (block for stage in network.backbone.blocks for block in stage):
        block.se.act1 = nn.ReLU()


def _no_node_activation(network: Any) -> None:
    for cell in network.fpn.cell:
        for node in cell.fnode:
            node.after_combine.act = nn.Identity()


def _no_node_bias(network: Any) -> None:
    for cell in network.fpn.cell:
        for node in cell.fnode:
            node.after_combine.conv.conv_pw.bias.data.zero_()


def _no_head_bias(network: Any) -> None:
    for head in (network.class_net, network.box_net):
        for convolution in head.conv_rep:
            convolution.conv_pw.bias.data.zero_()


def _one_level_norms(network: Any) -> None:
    for head in (network.class_net, network.box_net):
        for levels in head.bn_rep:
            for level in levels[1:]:
                level.bn.load_state_dict(levels[0].bn.state_dict())


def _bgr(network: Any) -> None:
    stem = network.backbone.conv_stem
    stem.weight.data = stem.weight.data.flip(1)


def _xyxy(network: Any) -> None:
    last = network.box_net.predict.conv_pw
    order = torch.arange(len(last.bias)).reshape(-1, 4)[:, [1, 0, 3, 2]].flatten()
    last.weight.data, last.bias.data = last.weight.data[order], last.bias.data[order]


def _class_major(network: Any) -> None:
    last = network.class_net.predict.conv_pw
    order = torch.arange(len(last.bias)).reshape(9, 90).T.flatten()
    last.weight.data, last.bias.data = last.weight.data[order], last.bias.data[order]


def _exchanged_convolutions(network: Any) -> None:
    first, second = network.box_net.conv_rep[0].conv_dw, network.box_net.conv_rep[1].conv_dw
    first.weight.data, second.weight.data = second.weight.data.clone(), first.weight.data.clone()


def _transposed_kernel(network: Any) -> None:
    depthwise = network.backbone.blocks[4][1].conv_dw
    depthwise.weight.data = depthwise.weight.data.transpose(2, 3).contiguous()


def _lost_skip(network: Any) -> None:
    network.backbone.blocks[3][2].has_skip = False


def _exchanged_statistics(network: Any) -> None:
    norm = network.fpn.cell[2].fnode[7].after_combine.conv.bn
    norm.running_mean.data, norm.running_var.data = norm.running_var.data.clone(), norm.running_mean.data.abs() + 0.1


PLANTS = (
    Plant("batch norm eps 1e-5 everywhere", "backbone.stem.norm", "batch-norm-epsilon", _epsilon),
    Plant("batch norm eps 1e-5 in one block", "backbone.blocks.3.project_norm", None, _one_epsilon),
    Plant("symmetric padding", "backbone.stem.conv", "no-same-conv", _each("Conv2dSame", _symmetric_convolutions)),
    Plant("BGR input", "backbone.stem.conv", "swapped-input-channels", _bgr),
    Plant(
        "squeeze-excite without biases",
        "backbone.blocks.0.squeeze_excite.reduce",
        "no-squeeze-excite-bias",
        _no_gate_bias,
    ),
    Plant("ReLU in squeeze-excite", "backbone.blocks.0.squeeze_excite.expand", "squeeze-excite-relu", _gate_relu),
    Plant("a kernel transposed", "backbone.blocks.9.depthwise", None, _transposed_kernel),
    Plant("one block without its skip", "backbone.blocks.7", None, _lost_skip),
    Plant(
        "max-pool padded with zeros",
        "bifpn.extra_levels.6",
        "zero-padded-maxpool",
        _each("MaxPool2dSame", _pool("zeros")),
    ),
    Plant(
        "max-pool padded symmetrically",
        "bifpn.extra_levels.6",
        "no-same-maxpool",
        _each("MaxPool2dSame", _pool("symmetric")),
    ),
    Plant(
        "bilinear upsampling",
        "bifpn.cells.0.nodes.0.resamples.1",
        "bilinear-upsampling",
        _each("Interpolate2d", _bilinear),
    ),
    Plant("softmax fusion", "bifpn.cells.0.nodes.0.fuse", "softmax-fusion", _each("FpnCombine", _softmax)),
    Plant(
        "fusion without 1e-4",
        "bifpn.cells.0.nodes.0.fuse",
        "no-fusion-epsilon",
        _each("FpnCombine", _no_fusion_epsilon),
    ),
    Plant("edge weights in another order", "bifpn.cells.1.nodes.4.fuse", None, _exchanged_edges),
    Plant(
        "no activation after fusion", "bifpn.cells.0.nodes.0.activation", "no-fusion-activation", _no_node_activation
    ),
    Plant("nodes without their bias", "bifpn.cells.0.nodes.0.conv.pointwise", "no-fusion-bias", _no_node_bias),
    Plant("mean and variance exchanged in one norm", "bifpn.cells.2.nodes.7.norm", None, _exchanged_statistics),
    Plant("heads without their hidden bias", "class_head.convs.0.pointwise[3]", "no-head-bias", _no_head_bias),
    Plant("the lowest level's norms for all", "class_head.norms.0.4", "one-level-norms", _one_level_norms),
    Plant("classes before anchors", "class_head.predict[3]", "class-major-outputs", _class_major),
    Plant("x before y in boxes", "box_head.predict[3]", "xyxy-box-codes", _xyxy),
    Plant("two of a head's convolutions exchanged", "box_head.convs.0.depthwise[3]", None, _exchanged_convolutions),
)
