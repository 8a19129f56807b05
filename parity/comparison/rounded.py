"""What rounding costs a network as a whole: in float64, with every layer rounded once and means added as TensorFlow
does.

It is neither side's float32 run, so a mistake that only float32 makes is not in it. Nearly all that TensorFlow's
float32 loses and PyTorch's does not is in squeeze-excite's means: TensorFlow adds the pixels one after another,
PyTorch in a tree.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...convert.layers import layers
from ...effdet_torch.backbone import ChannelMean
from ...effdet_torch.model import EfficientDet
from ..copying import copied_with_shared_weights
from ..difference import apart
from ..traces.candidate import Lockstep


class SequentialMean(ChannelMean):
    """The mean of each channel that adds one pixel after another, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).float().contiguous().cpu().numpy().reshape(batch, height * width, channels)
        # numpy adds the rows of a contiguous matrix one after another; along contiguous values it would add in a tree.
        sums = np.stack([np.add.reduce(image, axis=0, dtype=np.float32) for image in pixels])
        return torch.from_numpy(sums / np.float32(height * width)).to(x).reshape(batch, channels, 1, 1)


def with_sequential_means(model: EfficientDet) -> EfficientDet:
    """A copy of `model` that sums its means as TensorFlow does; the weights are shared."""
    twin = copied_with_shared_weights(model)
    for module in twin.modules():
        if type(module) is ChannelMean:
            module.__class__ = SequentialMean
    return twin


def rounding_costs(
    single: EfficientDet, double: EfficientDet, rounded: EfficientDet, images: NDArray[np.float32]
) -> Iterator[tuple[str, float]]:
    """(layer key, what rounding every layer up to it once costs, of its largest value), in the order of computation.

    The three are forms of one model (`compare.precisions`), of which `single` says only to what type layers are
    rounded. It is a run of its own, before a comparison: one network more beside the candidate's two would take a third
    more memory.
    """
    table = layers(double.config)
    dtype = next(single.parameters()).dtype
    exact, once = Lockstep(double, images, table), Lockstep(rounded, images, table, rounding=dtype)
    try:
        for layer in table:
            yield layer.key, apart(once.at(layer.key), exact.at(layer.key))
    finally:
        exact.close()
        once.close()
