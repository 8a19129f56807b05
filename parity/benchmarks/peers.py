"""Other implementations of EfficientDet in PyTorch, with this model's weights, to be run beside ours.

Each is built as `effconv parity --port` builds it and filled by its naming table. Each is used where it can be
imported; the error says what to do where it cannot.
"""

import dataclasses
import importlib
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...effdet_torch.config import Config
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.anchors import feature_sizes
from ...errors import EffconvError
from ..provenance import version
from ..referee.module_job import filled_port
from ..referee.ports import PORTS, Port

PEERS = tuple(PORTS)
ANOTHER_FUNCTION = {"zylo117": "another function: max-pooling is padded with zeros, and its outputs are probabilities"}


class Peer(NamedTuple):
    """A network of others: called with images (B, 3, H, W), it gives (class outputs, box codes) by level, as ours."""

    network: nn.Module
    version: str
    note: str  # what a reader of its figures has to know; empty where there is nothing
    same_function: bool = True


def peer(name: str, model: EfficientDet, size: tuple[int, int]) -> Peer:
    """The network of one of PEERS with `model`'s weights, for inputs of `size`.

    Raises EffconvError when it cannot be imported, has no such model, or is not built from the same tensors.
    """
    port = PORTS[name]
    network = filled_port(name, model, size)
    torchvision = importlib.import_module("torchvision")
    notes = ["its torchvision is a stand-in for imports the network does not use"] if _stand_in(torchvision) else []
    if other := ANOTHER_FUNCTION.get(name):
        notes.insert(0, other)
    # effdet gives levels itself.
    by_level = network if name == "effdet" else ByLevel(network, port, model.config, size)
    installed = version(name) or "of a source tree"
    return Peer(by_level, installed, "; ".join(notes), name not in ANOTHER_FUNCTION)


def _stand_in(torchvision: Any) -> bool:
    return bool(getattr(torchvision, "STAND_IN", False))


class ByLevel(nn.Module):
    """A port whose outputs are of all anchors at once, cut into levels; views, which cost nothing that counts."""

    def __init__(self, network: nn.Module, port: Port, config: Config, size: tuple[int, int]):
        super().__init__()
        self.network, self.port = network, port
        self.anchors = config.num_anchors
        self.sizes = feature_sizes(dataclasses.replace(config, image_size=size))

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        classes, boxes = self.port.outputs(self.network, images)
        return self._levels(classes), self._levels(boxes)

    def _levels(self, outputs: Tensor) -> list[Tensor]:
        counts = [height * width * self.anchors for height, width in self.sizes]
        parts = torch.split(outputs, counts, 1)
        return [
            part.reshape(len(part), height, width, -1).permute(0, 3, 1, 2)
            for part, (height, width) in zip(parts, self.sizes, strict=True)
        ]


def import_effdet() -> tuple[Any, Any]:
    """(effdet, effdet.anchors). Raises EffconvError when they cannot be imported."""
    try:
        return importlib.import_module("effdet"), importlib.import_module("effdet.anchors")
    except Exception as error:  # a broken torchvision raises what it likes
        raise EffconvError(f"effdet: cannot be imported ({error}); pip install effdet==0.4.1") from error
