"""How a variable's axes move between TensorFlow and PyTorch: named, invertible, and without arithmetic."""

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Layout(Enum):
    """A way the axes move; the value is its name in rule tables."""

    AS_IS = "as_is"
    HWIO_TO_OIHW = "hwio_to_oihw"  # convolution kernels
    HWCM_TO_CMHW = "hwcm_to_cmhw"  # depthwise kernels; the channel multiplier M is 1

    def to_torch(self, array: Array) -> Array:
        """A view of `array` with PyTorch's axis order."""
        axes = _AXES[self]
        return array if axes is None else array.transpose(axes)

    def to_tensorflow(self, array: Array) -> Array:
        """A view of `array` with TensorFlow's axis order; undoes `to_torch`."""
        axes = _AXES[self]
        return array if axes is None else array.transpose(tuple(int(i) for i in np.argsort(axes)))

    def torch_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The PyTorch shape of a TensorFlow variable of `shape`."""
        axes = _AXES[self]
        return shape if axes is None else tuple(shape[i] for i in axes)


# The axes of the PyTorch array, as indices into the TensorFlow array's.
_AXES: dict[Layout, tuple[int, ...] | None] = {
    Layout.AS_IS: None,
    Layout.HWIO_TO_OIHW: (3, 2, 0, 1),
    Layout.HWCM_TO_CMHW: (2, 3, 0, 1),
}
