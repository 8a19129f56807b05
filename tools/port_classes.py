"""Other projects' own networks, built from their sources, which are not part of effconv.

FOLDER holds `packages` (`pip install --no-deps --target packages effdet==0.4.1 timm torchvision omegaconf
antlr4-python3-runtime==4.9.3 pyyaml pycocotools tqdm loguru opencv-python-headless huggingface_hub`) and checkouts of
zylo117/Yet-Another-EfficientDet-Pytorch and bonlime/pytorch-tools as `zylo117` and `pytorch-tools`.
"""

import math
import sys
import types
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effconv.convert.layout import Array
from effconv.convert.namings.effdet import EFFDET
from effconv.convert.namings.naming import Naming
from effconv.convert.namings.pytorch_tools import PYTORCH_TOOLS
from effconv.convert.namings.zylo117 import ZYLO117
from effconv.effdet_torch.config import Config

Outputs = tuple[Tensor, Tensor]  # class outputs (B, anchors, classes) and box codes (B, anchors, 4)


class Port(NamedTuple):
    """One project. `outputs(network, images)` are in effconv's order, by its own forward."""

    naming: Naming
    models: Callable[[Config], bool]
    build: Callable[[Config], nn.Module]
    outputs: Callable[[nn.Module, Tensor], Outputs]
    activated: bool = False  # its class outputs are probabilities


def size_of(config: Config) -> int:
    """Of the images: so that the highest level of two of them has eight values, whose variance means something."""
    return 2 ** (config.max_level + 1)


def find_sources(folder: Path) -> None:
    """Make the projects importable. They need torchvision's Python files alone, not its compiled operators."""
    sys.path[:0] = [str(folder / name) for name in ("packages", "zylo117", "pytorch-tools")]
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
    torch.jit.script = lambda function, *arguments, **options: function  # type: ignore[assignment]


def filled(network: nn.Module, state: Mapping[str, Array]) -> nn.Module:
    """The network with these weights, in float64 and eval mode. Raises RuntimeError unless every tensor fits."""
    network = network.double()
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    network.load_state_dict(tensors | counters, strict=True)
    return network.eval()


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """{key: shape} of what a file of the network holds, without the counters that PyTorch adds."""
    tensors = network.state_dict()
    return {key: tuple(value.shape) for key, value in tensors.items() if not key.endswith("num_batches_tracked")}


def flat(maps: list[Tensor], size: int) -> Tensor:
    """Maps (B, anchors * size, H, W) of all levels as (B, anchors, size)."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, size)) for level in maps], 1)


def _effdet(config: Config) -> nn.Module:
    name = config.name.replace("efficientdet-", "tf_efficientdet_")
    create = import_module("effdet").create_model
    return create(name, pretrained=False, pretrained_backbone=False, image_size=(size_of(config),) * 2)  # type: ignore[no-any-return]


def _effdet_outputs(network: nn.Module, images: Tensor) -> Outputs:
    classes, boxes = network(images)
    return flat(classes, network.config.num_classes), flat(boxes, 4)


def _zylo117(config: Config) -> nn.Module:
    compound = 8 if config.name.endswith("d7x") else int(config.name[-1])
    pooling = import_module("efficientnet.utils_extra").MaxPool2dStaticSamePadding
    pooling.forward = _same_pool  # it pads with zeros: known, said on import, and not what is compared here
    return import_module("backbone").EfficientDetBackbone(num_classes=90, compound_coef=compound)  # type: ignore[no-any-return]


def _same_pool(module: nn.Module, x: Tensor) -> Tensor:
    sides = []
    for size, kernel, stride in zip(x.shape[:1:-1], module.kernel_size[::-1], module.stride[::-1], strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return module.pool(F.pad(x, sides, value=-math.inf))  # type: ignore[no-any-return]


def _zylo117_outputs(network: nn.Module, images: Tensor) -> Outputs:
    _, boxes, classes, _ = network(images)
    return classes, boxes


def _pytorch_tools(config: Config) -> nn.Module:
    models = import_module("pytorch_tools.detection_models")
    make = getattr(models, f"efficientdet_{config.name.removeprefix('efficientdet-')}")
    return make(pretrained=None, encoder_weights=None, match_tf_same_padding=True)  # type: ignore[no-any-return]


def _pytorch_tools_outputs(network: nn.Module, images: Tensor) -> Outputs:
    classes, boxes = network(images)
    return classes, boxes[..., [1, 0, 3, 2]]  # its forward puts x before y


PORTS = (
    Port(EFFDET, lambda config: True, _effdet, _effdet_outputs),
    Port(ZYLO117, lambda config: config.squeeze_excite, _zylo117, _zylo117_outputs, activated=True),
    Port(
        PYTORCH_TOOLS,
        lambda config: config.squeeze_excite and config.name[-1] not in "7x",
        _pytorch_tools,
        _pytorch_tools_outputs,
    ),
)
