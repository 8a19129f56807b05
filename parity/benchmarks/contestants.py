"""The networks that `effconv bench inference` runs, by name: our engines, TensorFlow, peers, and a wrong one."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...effdet_torch.engines.convolution import FoldedConv2d, ZeroTapConv2d
from ...effdet_torch.engines.engines import ENGINES, Called, make_engine
from ...effdet_torch.engines.fast import fast
from ...effdet_torch.engines.fast_ops import FastResample
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ..provenance import version
from ..traces.official import official_variables
from ..traces.trace import nhwc
from .contest import require_tensorflow
from .machine import CPU, ON_THE_CPU, Machine
from .peers import PEERS, peer

TENSORFLOW = "tensorflow"
SYMMETRIC = "fast, symmetric padding"  # wrong on purpose: what SAME costs


class Contestant(NamedTuple):
    """A network, called with images, and what a reader of its figures has to know."""

    network: nn.Module
    version: str
    note: str
    same_function: bool = True  # as ours, so that its outputs have to be ours


def contestant(
    name: str, model: EfficientDet, checkpoint: Path, size: tuple[int, int], machine: Machine = ON_THE_CPU
) -> Contestant:
    """The contestant of that name, `model` on the CPU being of `checkpoint`, to be called with images on `machine`.

    Raises EffconvError when it cannot be had.
    """
    if name in ENGINES:
        own = model if machine.device == CPU else copy.deepcopy(model).to(machine.device)
        return Contestant(make_engine(name, own, size, machine.dtype_name), f"PyTorch {torch.__version__}", "")
    if name == SYMMETRIC:
        network = symmetric(model).to(machine.device, machine.dtype)
        return Contestant(
            network, f"PyTorch {torch.__version__}", "another function: shows what SAME costs", same_function=False
        )
    if name == TENSORFLOW:
        return _tensorflow(model, checkpoint)
    theirs, _, layout = name.partition(", ")
    if theirs not in PEERS or layout not in ("", "channels_last"):
        raise EffconvError(f"no contestant is called {name!r}; there are {', '.join([*ENGINES, TENSORFLOW, *PEERS])}")
    found = peer(theirs, model, size)
    theirs_there = found.network.to(machine.device, machine.dtype)
    network = ChannelsLast(theirs_there) if layout else theirs_there
    return Contestant(network, found.version, found.note, found.same_function)


def _tensorflow(model: EfficientDet, checkpoint: Path) -> Contestant:
    require_tensorflow()
    from ..reference.graphs import compiled_network

    variables, _ = official_variables(checkpoint, model.config)
    run = compiled_network(model.config, variables)

    def forward(images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return by_level(run(nhwc(images.numpy())), model.config.levels)

    return Contestant(Called(model, forward), str(version("tensorflow")), "one graph, constants folded, oneDNN on")


def by_level(outputs: Mapping[str, Any], levels: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """TensorFlow's outputs, by name, as our model gives them."""
    classes, boxes = (
        [torch.from_numpy(np.array(outputs[f"{kind}_outputs/{level}"])).permute(0, 3, 1, 2) for level in levels]
        for kind in ("class", "box")
    )
    return classes, boxes


class ChannelsLast(nn.Module):
    """A network with its weights and images in channels-last memory."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Any:
        return self.network(images.contiguous(memory_format=torch.channels_last))


def symmetric(model: EfficientDet) -> nn.Module:
    """The fast form with as much padding on either side everywhere: the shapes are the same, the values are not."""
    network = fast(model)
    parts = {name: part for name, part in network.named_modules() if isinstance(part, ZeroTapConv2d)}
    for name, part in parts.items():
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, SymmetricConv2d(part))
    for module in network.modules():
        if isinstance(module, FastResample):
            module.pool = lambda x, kernel, stride: F.max_pool2d(x, kernel, stride, 1)  # type: ignore[method-assign]
    return network


class SymmetricConv2d(FoldedConv2d):
    """A convolution of stride 2 with its own kernel and as much padding on either side."""

    def __init__(self, given: ZeroTapConv2d):
        super().__init__([given.weight], given.bias, given.stride, given.groups, given.activation)
        self.padding = ((given.kernel[0] - 1) // 2, (given.kernel[1] - 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous(memory_format=torch.channels_last))  # images come in another order

    def placed(self, x: Tensor) -> tuple[int, tuple[int, int]]:
        return 0, self.padding
