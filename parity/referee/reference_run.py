"""What effconv's network computes of some images in float64: the side that another network is compared with.

Its layers are TensorFlow's to within 1e-13 (`effconv parity`, results/measured/parity.json).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...convert.layers import Layer, layers
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.ops import BatchNormActivation
from ..copying import copied_with_shared_weights

OUTPUTS = ("class_head.predict", "box_head.predict")  # the network's last layers


class ReferenceRun(NamedTuple):
    """One run: layers by key, (B, C, H, W) in float64."""

    images: Tensor  # (B, 3, H, W)
    table: tuple[Layer, ...]
    values: Mapping[str, Tensor]
    unactivated: Mapping[str, Tensor]  # of norms that end with an activation: what they give it


def in_float64(model: EfficientDet) -> EfficientDet:
    """`model` in float64 on the CPU and in eval mode; `model` itself stays as it is."""
    return copied_with_shared_weights(model).cpu().double().eval()


def reference_run(model: EfficientDet, images: Tensor) -> ReferenceRun:
    """Run a float64 `model` on `images` (B, 3, H, W), and keep every layer.

    In memory: about 1 GB for efficientdet-d0 at 512x512. Raises EffconvError for images that do not suit the model.
    """
    table = layers(model.config)
    rows: dict[str, list[Layer]] = {}
    for layer in table:
        rows.setdefault(layer.module, []).append(layer)
    values: dict[str, Tensor] = {}
    unactivated: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    # A module that all levels share is called once per level, lowest first.
    handles = [
        modules[path].register_forward_hook(_keep(sorted(of_module, key=_level), values, unactivated))
        for path, of_module in rows.items()
    ]
    images = images.double()
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return ReferenceRun(images, table, values, unactivated)


def _level(layer: Layer) -> int:
    return layer.level or 0


def _keep(of_module: list[Layer], values: dict[str, Tensor], unactivated: dict[str, Tensor]) -> Any:
    calls = iter(of_module)

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        key = next(calls).key
        values[key] = output
        if isinstance(module, BatchNormActivation):
            unactivated[key] = nn.BatchNorm2d.forward(module, inputs[0])

    return hook
