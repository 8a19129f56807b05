"""A run of our own model as a trace: to compare two PyTorch models, or one model on two machines."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...convert.layers import layers
from ...effdet_torch.model import EfficientDet
from ..copying import copied_with_shared_weights
from .candidate import Lockstep
from .trace import KINDS, Activation, Kind


class CandidateTrace:
    """Every layer of `model` on `images` (B, 3, H, W), run anew each time it is walked."""

    exact = True
    kinds = KINDS

    def __init__(self, model: EfficientDet, images: NDArray[np.float32], source: Mapping[str, Any]):
        self.config, self.images = model.config, images
        self.source = {"kind": "torch", "label": f"effconv in PyTorch {torch.__version__}", **source}
        self.required: frozenset[str] = frozenset()  # a changed model may leave layers out, and then so may the other
        self._models = model, copied_with_shared_weights(model).double()

    def activations(self, kind: Kind) -> Iterator[Activation]:
        """Every layer the model computes, in float32 and float64 side by side."""
        table = layers(self.config)
        single, double = (Lockstep(model, self.images, table) for model in self._models)
        try:
            for layer in table:
                value, wide = single.at(layer.key), double.at(layer.key)
                if value is None or wide is None:
                    continue
                value = np.ascontiguousarray(value)
                yield Activation(layer.key, value, wide)
                if kind == "local":
                    double.replace(layer.key, value)
                del value, wide
        finally:
            single.close()
            double.close()
