"""Whether a network's float32 is sound: every layer, in float32 and in float64 on the same input, within its bound.

It needs no reference. A float32 path that computes something else (half-precision kernels, a wrong fast path, a pixel
amiss) is out of its bound, whatever else agrees.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...convert.layers import layers
from ...effdet_torch.model import EfficientDet
from ..difference import error_and_times, fault_of, largest
from ..traces.candidate import Lockstep
from .bounds import Bounds


class Soundness(NamedTuple):
    """One layer's float32 against its float64, on the same float32 input."""

    error: float  # relative to the layer's largest value
    times_bound: float  # the largest difference by what rounding allows its element

    @property
    def ok(self) -> bool:
        """Whether rounding explains all of it. NaN is explained by nothing."""
        return math.isfinite(self.error) and self.times_bound <= 1

    @property
    def reason(self) -> str:
        """In words, after whose it is."""
        apart = f"float32 differs from its own float64 by {self.error:.1e}"
        return f"{apart}, {self.times_bound:.3g} times what rounding allows"


def precision_of(model: EfficientDet) -> str:
    """The name in `limits.UNITS` of the precision that a model computes in."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def sound_layers(
    single: EfficientDet, double: EfficientDet, images: NDArray[np.float32]
) -> Iterator[tuple[str, tuple[int, ...], Soundness]]:
    """(layer key, shape (B, H, W, C), soundness) of every layer `single` computes on `images` (B, 3, H, W).

    `double` is the same model in float64; each of its layers is fed what `single` computed before. A model in half
    precision is judged by that precision's own unit. Only the current layer is in memory.
    """
    table = layers(single.config)
    bounds = Bounds(double, table, precision_of(single))
    runs = Lockstep(single, images, table), Lockstep(double, images, table)
    try:
        for layer in table:
            own, wide = (run.at(layer.key) for run in runs)
            if own is None or wide is None:
                continue
            own = np.ascontiguousarray(own)
            bound = bounds.take(layer.module).permute(0, 2, 3, 1).cpu().numpy()
            if own.shape != wide.shape or fault_of(own, "") or fault_of(wide, ""):
                yield layer.key, own.shape, Soundness(math.inf, math.inf)
            else:
                yield layer.key, own.shape, Soundness(*error_and_times(own, wide, largest(wide), bound))
            runs[1].replace(layer.key, own)
            del own, wide, bound
    finally:
        for run in runs:
            run.close()
        bounds.close()
