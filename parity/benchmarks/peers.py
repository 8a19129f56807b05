"""Other implementations of EfficientDet in PyTorch, with this model's weights, to be run beside ours.

Each is used where it can be imported; `absent` says what to do where it cannot.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ..provenance import version

EDGES = ".fuse.edge_weights."
COUNTER = "num_batches_tracked"


class Peer(NamedTuple):
    """A network of others that computes the model's function: called with images (B, 3, H, W), as ours is."""

    network: torch.nn.Module
    version: str
    note: str  # what a reader of its figures has to know; empty where there is nothing


def effdet(model: EfficientDet, size: tuple[int, int]) -> Peer:
    """rwightman's efficientdet-pytorch (`effdet`, on timm) with `model`'s weights, for inputs of `size`.

    Raises EffconvError when it is not installed, has no such model, or is not built from the same tensors.
    """
    package, _ = import_effdet()
    torchvision = importlib.import_module("torchvision")
    name = model.config.name.replace("efficientdet-", "tf_efficientdet_")
    try:
        config = package.get_efficientdet_config(name)
    except KeyError as error:
        raise EffconvError(f"effdet: has no {name}") from error
    config.image_size = size
    network = package.EfficientDet(config, pretrained_backbone=False).eval()
    load_in_order(network, in_order(model), "effdet")
    stand_in = getattr(torchvision, "STAND_IN", False)
    note = "its torchvision is a stand-in for imports the network does not use" if stand_in else ""
    return Peer(network, version("effdet") or "of a source tree", note)


def import_effdet() -> tuple[Any, Any]:
    """(effdet, effdet.anchors). Raises EffconvError when they cannot be imported."""
    try:
        return importlib.import_module("effdet"), importlib.import_module("effdet.anchors")
    except Exception as error:  # a broken torchvision raises what it likes
        raise EffconvError(f"effdet: cannot be imported ({error}); pip install effdet==0.4.1") from error


PEERS: Mapping[str, Callable[[EfficientDet, tuple[int, int]], Peer]] = {"effdet": effdet}


def in_order(model: EfficientDet) -> list[Tensor]:
    """The model's tensors in the order in which effdet defines the same ones.

    Both define their modules in the order of the paper's figures; the edge weights of a node are one vector there, and
    come before its resampling convolutions.
    """
    ordered: list[Tensor] = []
    nodes: dict[str, int] = {}  # a node's prefix -> where its first tensor is in `ordered`
    edges: dict[str, list[Tensor]] = {}
    for key, tensor in model.state_dict().items():
        parts = key.split(".")
        if "nodes" in parts:
            prefix = ".".join(parts[: parts.index("nodes") + 2])
            nodes.setdefault(prefix, len(ordered))
            if EDGES in key:
                edges.setdefault(prefix, []).append(tensor)
                continue
        ordered.append(tensor)
    for prefix in reversed(nodes):
        if prefix in edges:
            ordered.insert(nodes[prefix], torch.stack(edges[prefix]))
    return ordered


def load_in_order(network: torch.nn.Module, tensors: list[Tensor], name: str) -> None:
    """Fill every tensor of `network` with those given, one by one. Raises EffconvError when a shape differs."""
    keys = [key for key in network.state_dict() if not key.endswith(COUNTER)]
    shapes = [tuple(network.state_dict()[key].shape) for key in keys]
    given = [tuple(tensor.shape) for tensor in tensors]
    differing = [place for place, pair in enumerate(zip(shapes, given, strict=False)) if pair[0] != pair[1]]
    if differing or len(shapes) != len(given):
        place = differing[0] if differing else min(len(shapes), len(given)) - 1
        raise EffconvError(
            f"{name}: is built from other tensors than the model; {keys[place]} is {shapes[place]}, ours {given[place]}"
        )
    state: dict[str, Any] = dict(zip(keys, (tensor.clone() for tensor in tensors), strict=True))
    missing = network.load_state_dict(state, strict=False).missing_keys
    assert all(key.endswith(COUNTER) for key in missing)
