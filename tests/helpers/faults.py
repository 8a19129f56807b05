"""Single faults planted in a tiny model, each with the layer where it must be found first.

Their indices suit the tiny models, whose backbones have the same stages. Layers are as computed from images whose
feature maps have even and odd sizes (`IMAGE_SIZES`).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from effconv.effdet_torch.architecture import cell_nodes
from effconv.effdet_torch.config import Config
from effconv.effdet_torch.model import EfficientDet
from effconv.effdet_torch.ops import make_activation
from effconv.parity.mistakes import modules as mistakes
from effconv.parity.mistakes.network import CHANGES

Plant = Callable[[EfficientDet], None]

# Height and width of images by the model's highest level, so that some maps are twice the next and some are not.
IMAGE_SIZES = {7: (128, 160), 8: (256, 320)}
# The tiny model with weighted fusion has one negative edge weight in each cell.
FIRST_NEGATIVE_EDGE = "bifpn.cells.0.nodes.5.fuse"


class Fault(NamedTuple):
    """One fault: how to plant it in a model its caller owns, and what a comparison must say of it."""

    name: str
    plant: Plant
    layer: str  # key of the first layer it changes
    explained_as: str | None = None  # the Change that equals it


def faults(config: Config) -> list[Fault]:
    """Every fault that a model of `config` can have."""
    found = []
    for name, change in CHANGES.items():
        if change.fits(config):
            layer = FIRST_NEGATIVE_EDGE if name == "no-fusion-relu" else change.shows(config)
            found.append(Fault(name, change.apply, layer, explained_as=name))
    found += [*_of_weights(), *_of_the_backbone(config), *_of_the_bifpn(config), *_of_the_heads()]
    if config.squeeze_excite:
        found += _of_squeeze_excite()
    if config.fusion == "fastattn":
        found += _of_edge_weights()
    return found


def edited(path: str, edit: Callable[[Tensor], Tensor]) -> Plant:
    """A parameter or buffer exchanged for what `edit` makes of a copy of it."""

    def plant(model: EfficientDet) -> None:
        tensor = model.state_dict(keep_vars=True)[path]
        mistakes.replace(tensor, edit(tensor.detach().clone()))

    return plant


def at(place: tuple[int, ...] | int, edit: Callable[[Tensor], Tensor | float]) -> Callable[[Tensor], Tensor]:
    """An edit of one value, or one channel, of a tensor."""

    def whole(tensor: Tensor) -> Tensor:
        tensor[place] = edit(tensor[place])
        return tensor

    return whole


def swapped(one: str, other: str) -> Plant:
    """The values of two modules, or of two tensors, exchanged."""

    def plant(model: EfficientDet) -> None:
        tensors = model.state_dict(keep_vars=True)
        values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        for source, target in ((one, other), (other, one)):
            for name in tensors:
                if name == source or name.startswith(f"{source}."):
                    mistakes.replace(tensors[target + name.removeprefix(source)], values[name])

    return plant


def given(path: str, **attributes: object) -> Plant:
    """Other attributes of one module."""

    def plant(model: EfficientDet) -> None:
        for name, value in attributes.items():
            setattr(model.get_submodule(path), name, value)

    return plant


def overridden(path: str, step: type[nn.Module]) -> Plant:
    """One module that computes as `step` says."""
    return lambda model: mistakes.override(model.get_submodule(path), step)


def _of_weights() -> list[Fault]:
    """In the numbers alone: what a wrong conversion does."""
    blocks = "backbone.blocks"

    def in_layer(name: str, layer: str, tensor: str, edit: Callable[[Tensor], Tensor]) -> Fault:
        return Fault(name, edited(f"{layer}.{tensor}", edit), layer)

    return [
        Fault("blocks' kernels swapped", swapped(f"{blocks}.6.project", f"{blocks}.7.project"), f"{blocks}.6.project"),
        Fault(
            "gamma and beta swapped",
            swapped(f"{blocks}.2.depthwise_norm.weight", f"{blocks}.2.depthwise_norm.bias"),
            f"{blocks}.2.depthwise_norm",
        ),
        in_layer("height and width swapped", f"{blocks}.3.depthwise", "weight", lambda kernel: kernel.mT),
        in_layer("kernel turned", f"{blocks}.10.depthwise", "weight", lambda kernel: kernel.flip(2, 3)),
        in_layer("kernel off by one pixel", f"{blocks}.7.depthwise", "weight", lambda kernel: kernel.roll(1, 3)),
        in_layer("a channel zeroed", f"{blocks}.9.depthwise", "weight", at(3, torch.zeros_like)),
        in_layer("channels off by one", f"{blocks}.0.project", "weight", lambda kernel: kernel.roll(1, 1)),
        in_layer("a sign flipped", f"{blocks}.4.expand", "weight", at((5, 3), torch.neg)),
        in_layer("last bits", f"{blocks}.8.project", "weight", at((0, 0), lambda value: value * (1 + 1e-6))),
        in_layer("float16 round trip", f"{blocks}.1.expand", "weight", lambda kernel: kernel.half().to(kernel.dtype)),
        in_layer("running standard deviation", f"{blocks}.5.expand_norm", "running_var", torch.sqrt),
        in_layer("moving mean zeroed", "bifpn.cells.1.nodes.3.norm", "running_mean", torch.zeros_like),
        in_layer("negative variance", f"{blocks}.10.project_norm", "running_var", at(0, torch.neg)),
        in_layer(
            "input and output channels swapped",
            "bifpn.cells.0.nodes.2.conv.pointwise",
            "weight",
            lambda kernel: kernel.transpose(0, 1),
        ),
        in_layer("NaN", "bifpn.cells.1.nodes.0.conv.depthwise", "weight", at((4, 0, 1, 1), lambda _: torch.nan)),
        in_layer("infinity", f"{blocks}.6.expand", "weight", at((0, 0, 0, 0), lambda _: torch.inf)),
    ]


def _of_the_backbone(config: Config) -> list[Fault]:
    """In how blocks compute, and in which of them the BiFPN starts from."""
    blocks = "backbone.blocks"
    other = {"swish": "relu6", "relu6": "swish"}[config.activation]
    norm, epsilon = f"{blocks}.4.depthwise_norm", f"{blocks}.5.project_norm"
    symmetric, dilated = f"{blocks}.8.depthwise", f"{blocks}.10.depthwise"
    early = f"bifpn.cells.0.nodes.{_top_down(4, config)}.resamples.0.conv"
    return [
        Fault("one block's activation", given(norm, activation=make_activation(other)), norm),
        Fault("one block's skip left out", given(f"{blocks}.9", has_skip=False), f"{blocks}.9"),
        Fault("one batch norm's epsilon", given(epsilon, eps=1e-5), epsilon),
        Fault("one symmetric convolution", overridden(symmetric, mistakes.SymmetricConv), symmetric),
        # The second entry is what SAME padding then goes by: three pixels two apart span five.
        Fault("one dilated convolution", given(dilated, dilation=(2, 2), _window=((5, 5), (1, 1))), dilated),
        Fault("P4 taken one block early", given("backbone", ends=frozenset((4, 6, 10))), early),
    ]


def _of_squeeze_excite() -> list[Fault]:
    reduce, gate = "backbone.blocks.2.squeeze_excite.reduce", "backbone.blocks.6.squeeze_excite"
    activation = "backbone.blocks.3.squeeze_excite"
    return [
        Fault("one squeeze-excite bias left out", edited(f"{reduce}.bias", torch.zeros_like), reduce),
        Fault("one squeeze-excite left out", overridden(gate, mistakes.NoGate), f"{gate}.mean"),
        Fault("one squeeze-excite activation", given(activation, activation=nn.ReLU()), f"{activation}.expand"),
    ]


def _of_the_bifpn(config: Config) -> list[Fault]:
    cell = "bifpn.cells.1"
    up, down = (f"bifpn.cells.0.nodes.{node(5, config)}.resamples.0" for node in (_bottom_up, _top_down))
    fourth = _bottom_up(4, config)
    inputs = cell_nodes(config, 1)[fourth].inputs
    bilinear, pool = f"{cell}.nodes.2.resamples.1", f"{cell}.nodes.{fourth}.resamples.2"
    kernels = [f"bifpn.cells.{index}.nodes.3.conv.depthwise" for index in (0, 1)]

    def top_down_output(model: EfficientDet) -> None:
        outputs = model.get_submodule(cell).outputs
        outputs[1] = len(config.levels) + _top_down(4, config)

    return [
        Fault("two projections of P5 swapped", swapped(down, up), f"{down}.conv"),
        Fault("one projection's bias left out", edited(f"{up}.conv.bias", torch.zeros_like), f"{up}.conv"),
        Fault("P6's epsilon", given("bifpn.extra_levels.6.norm", eps=1e-5), "bifpn.extra_levels.6.norm"),
        Fault("one bilinear upsampling", overridden(bilinear, mistakes.BilinearUpsampling), bilinear),
        Fault("one symmetric max-pool", overridden(pool, mistakes.SymmetricMaxPool), pool),
        Fault("cells' kernels swapped", swapped(*kernels), kernels[0]),
        Fault(
            "a node's inputs swapped",
            given(f"{cell}.nodes.0", inputs=cell_nodes(config, 1)[0].inputs[::-1]),
            f"{cell}.nodes.0.resamples.0",
        ),
        Fault(
            "a node's first input taken twice",
            given(f"{cell}.nodes.{fourth}", inputs=(inputs[0], inputs[0], inputs[2])),
            f"{cell}.nodes.{fourth}.resamples.1",
        ),
        Fault(
            "one node's activation left out",
            given(f"{cell}.nodes.1", activation=nn.Identity()),
            f"{cell}.nodes.1.activation",
        ),
        Fault("P4 from the top-down path", top_down_output, "class_head.convs.0.depthwise[4]"),
    ]


def _of_edge_weights() -> list[Fault]:
    one, other = (f"bifpn.cells.0.nodes.2.fuse.edge_weights.{index}" for index in (0, 1))
    negative = "bifpn.cells.1.nodes.6.fuse"
    return [
        Fault("two edge weights swapped", swapped(one, other), "bifpn.cells.0.nodes.2.fuse"),
        Fault("an edge weight negated", edited(f"{negative}.edge_weights.2", torch.neg), negative),
    ]


def _of_the_heads() -> list[Fault]:
    def one_norm(model: EfficientDet) -> None:
        norms = "class_head.norms.1"
        mistakes.copy_state(model.get_submodule(f"{norms}.4"), model.get_submodule(f"{norms}.5"))

    def levels_reversed(model: EfficientDet) -> None:
        model.box_head.levels.reverse()

    def background_class(model: EfficientDet) -> None:
        outputs = torch.arange(model.class_head.predict.pointwise.out_channels)
        by_anchor = outputs.reshape(-1, model.config.num_classes)
        mistakes.reorder_outputs(model.class_head, by_anchor.roll(1, 1).flatten())

    def aspect_major(head: str) -> Plant:
        return lambda model: mistakes.aspect_major(model.get_submodule(head), model.config)

    predicted = "class_head.predict[3]", "box_head.predict[3]"
    square, kernel = "box_head.convs.0.pointwise", "class_head.predict.depthwise"
    return [
        Fault("one level's norm for another", one_norm, "class_head.norms.1.5"),
        Fault("two levels' norms swapped", swapped("box_head.norms.0.3", "box_head.norms.0.4"), "box_head.norms.0.3"),
        Fault("levels' norms reversed", levels_reversed, "box_head.norms.0.3"),
        Fault("one level's epsilon", given("box_head.norms.1.6", eps=1e-5), "box_head.norms.1.6"),
        Fault(
            "repeats swapped", swapped("class_head.convs.0", "class_head.convs.1"), "class_head.convs.0.depthwise[3]"
        ),
        Fault("heads swapped", swapped("class_head.convs.1", "box_head.convs.1"), "class_head.convs.1.depthwise[3]"),
        Fault(
            "square kernel's channels swapped", edited(f"{square}.weight", lambda w: w.transpose(0, 1)), f"{square}[3]"
        ),
        Fault("shared kernel off by one pixel", edited(f"{kernel}.weight", lambda w: w.roll(1, 3)), f"{kernel}[3]"),
        Fault("class bias left out", edited("class_head.predict.pointwise.bias", torch.zeros_like), predicted[0]),
        Fault("a background class", background_class, predicted[0]),
        Fault("aspect-major classes", aspect_major("class_head"), predicted[0]),
        Fault("aspect-major boxes", aspect_major("box_head"), predicted[1]),
        Fault("a NaN bias", edited("box_head.predict.pointwise.bias", at(0, lambda _: torch.nan)), predicted[1]),
    ]


def _top_down(level: int, config: Config) -> int:
    """Index, in each cell, of the top-down node that makes this level."""
    return min(index for index, node in enumerate(cell_nodes(config, 0)) if node.level == level)


def _bottom_up(level: int, config: Config) -> int:
    """Index, in each cell, of the bottom-up node that makes this level."""
    return max(index for index, node in enumerate(cell_nodes(config, 0)) if node.level == level)
