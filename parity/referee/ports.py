"""Other people's own networks, as they install or clone them: how each is built, and how its outputs are ordered."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...convert.layout import Array
from ...convert.namings.effdet import EFFDET
from ...convert.namings.naming import Naming
from ...convert.namings.pytorch_tools import PYTORCH_TOOLS
from ...convert.namings.zylo117 import ZYLO117
from ...effdet_torch.config import Config
from ...errors import EffconvError

Outputs = tuple[Tensor, Tensor]  # class outputs (B, anchors, classes) and box codes (B, anchors, 4)


class Port(NamedTuple):
    """One project. `outputs(network, images)` are in effconv's order, by its own forward."""

    naming: Naming
    how: str  # to make it importable
    models: Callable[[Config], bool]
    build: Callable[[Config, tuple[int, int]], nn.Module]  # of a model and the images' (height, width)
    outputs: Callable[[nn.Module, Tensor], Outputs]
    activated: bool = False  # its class outputs are probabilities


def build_port(name: str, config: Config, size: tuple[int, int]) -> tuple[Port, nn.Module]:
    """(the port, its own untrained network for `config`). Raises EffconvError where it has none or is not installed."""
    port = PORTS.get(name)
    if port is None:
        raise EffconvError(f"{name}: its own network cannot be built here, only {', '.join(PORTS)} can")
    if not port.models(config):
        raise EffconvError(f"{port.naming.port} has no {config.name}")
    return port, port.build(config, size).eval()


def filled(network: nn.Module, state: Mapping[str, Array]) -> nn.Module:
    """The network with these weights, in their precision. Raises EffconvError unless every tensor fits."""
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    network = network.double() if next(iter(tensors.values())).dtype == torch.float64 else network.float()
    try:
        network.load_state_dict(tensors | counters, strict=True)
    except RuntimeError as error:
        line = " ".join(str(error).split())[:200]
        raise EffconvError(f"{type(network).__name__}: not the tensors of its naming: {line}") from error
    return network.eval()


def flat(maps: list[Tensor], size: int) -> Tensor:
    """Maps (B, anchors * size, H, W) of all levels as (B, anchors, size)."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, size) for level in maps], 1)


def import_port(name: str, port: str) -> ModuleType:
    """A module of a project, by its name. Raises EffconvError where it cannot be imported."""
    try:
        return import_module(name)
    except Exception as error:  # whatever its code, or what that imports, does
        line = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise EffconvError(f"{port}: cannot be imported ({line}): {PORTS[port].how}") from error


def _effdet(config: Config, size: tuple[int, int]) -> nn.Module:
    name = config.name.replace("efficientdet-", "tf_efficientdet_")
    create = import_port("effdet", "effdet").create_model
    network: nn.Module = create(
        name, pretrained=False, pretrained_backbone=False, image_size=size, num_classes=config.num_classes
    )
    return network


def _effdet_outputs(network: Any, images: Tensor) -> Outputs:
    classes, boxes = network(images)
    return flat(classes, network.config.num_classes), flat(boxes, 4)


def _zylo117(config: Config, size: tuple[int, int]) -> nn.Module:
    compound = 8 if config.name.endswith("d7x") else int(config.name[-1])
    make = import_port("backbone", "zylo117").EfficientDetBackbone
    network: nn.Module = make(num_classes=config.num_classes, compound_coef=compound)
    return network


def _zylo117_outputs(network: nn.Module, images: Tensor) -> Outputs:
    _, boxes, classes, _ = network(images)
    return classes, boxes


def _pytorch_tools(config: Config, size: tuple[int, int]) -> nn.Module:
    models = import_port("pytorch_tools.detection_models", "pytorch-tools")
    make = getattr(models, f"efficientdet_{config.name.removeprefix('efficientdet-')}")
    network: nn.Module = make(
        pretrained=None, encoder_weights=None, match_tf_same_padding=True, num_classes=config.num_classes
    )
    return network


def _pytorch_tools_outputs(network: nn.Module, images: Tensor) -> Outputs:
    classes, boxes = network(images)
    return classes, boxes[..., [1, 0, 3, 2]]  # its forward puts x before y


def _no_lite(config: Config) -> bool:
    return config.squeeze_excite


PORTS: Mapping[str, Port] = {
    port.naming.name: port
    for port in (
        Port(EFFDET, "pip install effdet", lambda config: True, _effdet, _effdet_outputs),
        Port(
            ZYLO117,
            "clone github.com/zylo117/Yet-Another-EfficientDet-Pytorch and put the folder on PYTHONPATH",
            _no_lite,
            _zylo117,
            _zylo117_outputs,
            activated=True,
        ),
        Port(
            PYTORCH_TOOLS,
            "clone github.com/bonlime/pytorch-tools and put the folder on PYTHONPATH",
            lambda config: _no_lite(config) and config.name[-1] not in "7x",
            _pytorch_tools,
            _pytorch_tools_outputs,
        ),
    )
}
