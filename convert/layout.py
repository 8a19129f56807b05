"""How a variable's axes move between TensorFlow and PyTorch: named, invertible, and without arithmetic."""

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Layout(Enum):
    """Each value is (name, axes of the PyTorch array in terms of the TensorFlow array's)."""

    AS_IS = ("as_is", None)
    HWIO_TO_OIHW = ("hwio_to_oihw", (3, 2, 0, 1))  # convolution kernels
    HWCM_TO_CMHW = ("hwcm_to_cmhw", (2, 3, 0, 1))  # depthwise kernels; the channel multiplier M is 1

    @property
    def label(self) -> str:
        """The name written in rule tables."""
        return self.value[0]

    def to_torch(self, array: Array) -> Array:
        """A view of `array` with PyTorch's axis order."""
        axes = self.value[1]
        return array if axes is None else array.transpose(axes)

    def to_tensorflow(self, array: Array) -> Array:
        """A view of `array` with TensorFlow's axis order; undoes `to_torch`."""
        axes = self.value[1]
        return array if axes is None else array.transpose(tuple(int(i) for i in np.argsort(axes)))

    def torch_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The PyTorch shape of a TensorFlow variable of `shape`."""
        axes = self.value[1]
        return shape if axes is None else tuple(shape[i] for i in axes)
