"""What mistaken ports compute: classes that override one step of a module, and edits of a model's weights.

The names under which they are known, and what each does instead, are in `network.py`. Every edit is made once, in
place, to a model its caller owns. A class is given to instances, never to a class: other models stay as they are, and
every module keeps its path.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...effdet_torch.architecture import cell_nodes
from ...effdet_torch.backbone import MBConv, SqueezeExcite
from ...effdet_torch.bifpn import FusionNode, Resample, WeightedFusion
from ...effdet_torch.config import Config
from ...effdet_torch.heads import Head
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.ops import BatchNorm, BatchNormActivation, SameConv2d, make_activation

PYTORCH_EPSILON = 1e-5  # of nn.BatchNorm2d, where nothing else is asked for

Edit = Callable[[EfficientDet], None]
Kind = TypeVar("Kind", bound=nn.Module)


class SymmetricConv(SameConv2d):
    """Pads (kernel - 1) // 2 on every side, as PyTorch's convolutions can; differs at stride 2 and even sizes."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.weight.shape[2:]
        padding = (height - 1) // 2, (width - 1) // 2
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class SymmetricMaxPool(Resample):
    """Pads one pixel on every side, as `nn.MaxPool2d(3, 2, padding=1)` does; differs at even sizes."""

    def pool(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        return F.max_pool2d(x, kernel, stride, padding=1)


class BilinearUpsampling(Resample):
    """Interpolates, with half-pixel centres, where the official code repeats pixels."""

    def upsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size, mode="bilinear", align_corners=False)


class HalfPixelUpsampling(Resample):
    """Nearest neighbour by pixel centres, as TensorFlow 2's `tf.image.resize`; differs when doubling is not exact."""

    def upsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size, mode="nearest-exact")


class PoolingFirst(Resample):
    """Pools, then projects: the official code's option `conv_after_downsample`, which no released model sets."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if x.shape[2] > size[0] and x.shape[3] > size[1]:
            x = self.resize(x, size)
        return super().forward(x, size)


class UnrectifiedFusion(WeightedFusion):
    """Takes negative edge weights as they are."""

    def rectify(self, weight: Tensor) -> Tensor:
        return weight


class UnstabilizedFusion(WeightedFusion):
    """Divides by the sum of the weights alone."""

    def total(self, weights: Sequence[Tensor]) -> Tensor:
        return sum(weights[1:], start=weights[0])


class DividingFirst(WeightedFusion):
    """Normalises the weights, then multiplies: the same in exact arithmetic, rounded in another order."""

    def scale(self, x: Tensor, weight: Tensor, total: Tensor) -> Tensor:
        return x * (weight / total)


class SoftmaxFusion(WeightedFusion):
    """The paper's softmax-based fusion, `attn` in the official code, which no released model uses."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        weights = torch.stack(list(self.edge_weights)).softmax(0).unbind()
        scaled = [x * weight for x, weight in zip(maps, weights, strict=True)]
        return sum(scaled[1:], start=scaled[0])


class NoGate(SqueezeExcite):
    """Leaves squeeze-excite out."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class BatchStatistics(BatchNorm):
    """Normalises by the batch at hand, as a model does that was left in training mode; keeps the moving averages."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        x = F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)
        return self.activation(x) if isinstance(self, BatchNormActivation) else x


def modules_of(module: nn.Module, kind: type[Kind]) -> list[Kind]:
    """`module` and those inside it that are of class `kind`, in the order of `modules()`."""
    return [inner for inner in module.modules() if isinstance(inner, kind)]


def override(module: nn.Module, step: type[Any]) -> None:
    """Let `module` compute as `step` says, a class that extends its own; what was overridden before stays so."""
    current = type(module)
    if issubclass(step, current):
        module.__class__ = step
    elif not issubclass(current, step):
        module.__class__ = type(f"{step.__name__}{current.__name__}", (step, current), {})


def overriding(step: type[Any]) -> Edit:
    """Every module of the class that `step` extends computes as `step` says."""
    kind = step.__mro__[1]

    def edit(model: EfficientDet) -> None:
        for module in model.modules():
            if isinstance(module, kind):
                override(module, step)

    return edit


def replace(tensor: Tensor, value: Tensor) -> None:
    """Give a parameter or buffer another value, in memory of its own."""
    tensor.data = value.detach().clone()


def copy_state(source: nn.Module, target: nn.Module) -> None:
    """Give every parameter and buffer of `target` the value of its namesake in `source`."""
    values = source.state_dict()
    for name, tensor in target.state_dict(keep_vars=True).items():
        replace(tensor, values[name])


def batch_norm_epsilon(model: EfficientDet) -> None:
    for norm in modules_of(model, BatchNorm):
        norm.eps = PYTORCH_EPSILON


def no_biases(convs: Iterable[nn.Module]) -> None:
    for conv in convs:
        if isinstance(conv, nn.Conv2d) and conv.bias is not None:
            replace(conv.bias, torch.zeros_like(conv.bias))


def no_projection_bias(model: EfficientDet) -> None:
    no_biases(resample.conv for resample in modules_of(model, Resample))


def no_cell_projection_bias(model: EfficientDet) -> None:
    no_biases(resample.conv for resample in modules_of(model.bifpn.cells, Resample))


def no_fusion_bias(model: EfficientDet) -> None:
    no_biases(node.conv.pointwise for node in modules_of(model, FusionNode))


def no_head_bias(model: EfficientDet) -> None:
    no_biases(conv for head in modules_of(model, Head) for conv in head.convs.modules())


def no_squeeze_excite_bias(model: EfficientDet) -> None:
    no_biases(conv for gate in modules_of(model, SqueezeExcite) for conv in gate.children())


def repeated_projections(config: Config) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(node, place) of cell 0's projections of an input that an earlier node projects too, after the earlier one's."""
    earlier: dict[int, tuple[int, int]] = {}
    for index, node in enumerate(cell_nodes(config, 0)):
        for place, (source, channels) in enumerate(zip(node.inputs, node.input_channels, strict=True)):
            if channels != config.fpn_channels:
                if source in earlier:
                    yield earlier[source], (index, place)
                earlier.setdefault(source, (index, place))


def shared_projection(model: EfficientDet) -> None:
    nodes = modules_of(model.bifpn.cells[0], FusionNode)
    for (node, place), (later, later_place) in repeated_projections(model.config):
        copy_state(nodes[node].resamples[place], nodes[later].resamples[later_place])


def one_level_norms(model: EfficientDet) -> None:
    for head in modules_of(model, Head):
        for norms in head.norms:
            lowest, *others = norms.children()
            for norm in others:
                copy_state(lowest, norm)


def swapped_input_channels(model: EfficientDet) -> None:
    weight = model.backbone.stem.conv.weight
    replace(weight, weight.flip(1))


def reorder_outputs(head: Head, order: Tensor) -> None:
    """Output channel i of `head` becomes what channel order[i] was."""
    for parameter in head.predict.pointwise.parameters():
        replace(parameter, parameter[order])


def class_major_outputs(model: EfficientDet) -> None:
    anchors, classes = model.config.num_anchors, model.config.num_classes
    reorder_outputs(model.class_head, torch.arange(anchors * classes).reshape(anchors, classes).T.flatten())


def aspect_major(head: Head, config: Config) -> None:
    """One head's outputs for anchors that vary over aspect first, then scale."""
    outputs = torch.arange(head.predict.pointwise.out_channels)
    by_scale = outputs.reshape(config.num_scales, len(config.aspect_ratios), -1)
    reorder_outputs(head, by_scale.transpose(0, 1).flatten())


def aspect_major_anchors(model: EfficientDet) -> None:
    aspect_major(model.class_head, model.config)
    aspect_major(model.box_head, model.config)


def xyxy_box_codes(model: EfficientDet) -> None:
    codes = torch.arange(model.config.num_anchors * 4).reshape(-1, 4)
    reorder_outputs(model.box_head, codes[:, [1, 0, 3, 2]].flatten())


def activations(name: str) -> Edit:
    """Every activation of the network is the one called `name`."""

    def edit(model: EfficientDet) -> None:
        for module in model.modules():
            if isinstance(module, BatchNormActivation | SqueezeExcite | FusionNode):
                module.activation = make_activation(name)

    return edit


def squeeze_excite_relu(model: EfficientDet) -> None:
    for gate in modules_of(model, SqueezeExcite):
        gate.activation = nn.ReLU()


def no_skip(model: EfficientDet) -> None:
    for block in modules_of(model, MBConv):
        block.has_skip = False


def no_fusion_activation(model: EfficientDet) -> None:
    for node in modules_of(model, FusionNode):
        node.activation = nn.Identity()
