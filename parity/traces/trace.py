"""A trace: every layer's activation in one run of a network, with its rounding, walked one layer at a time.

All references yield traces: live TensorFlow (`official.py`), a file (`recording.py`), the official code's recorded runs
(`golden.py`), a frozen graph (`graph.py`), and another PyTorch model (`candidate.py`).
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from ..gaps import Array

# "accumulated": the run goes from the image on, so float64 shows where float32 has drifted to. "local": every layer's
# float64 is computed from the run's own float32 activations before it, so it shows what that layer alone rounds.
Kind = Literal["accumulated", "local"]
KINDS: tuple[Kind, ...] = ("local", "accumulated")


class Activation(NamedTuple):
    """One layer. Arrays are (B, H, W, C), or every `step`-th value of that, flattened, where `step` is above 1."""

    key: str  # our name for the layer
    float32: NDArray[np.float32]
    float64: Array | None = None  # what float64 arithmetic makes of it
    noise: float | None = None  # max |float32 - float64| / max |float64|, where float64 itself is not at hand
    shape: tuple[int, ...] = ()  # (B, H, W, C); only needed beside a sample
    step: int = 1


class Trace(Protocol):
    """One run of a network on some images."""

    config: Config
    images: NDArray[np.float32]  # (B, 3, H, W), normalised
    source: dict[str, Any]  # what ran, with which weights, on what: plain values; "kind" and "label" at least
    kinds: tuple[Kind, ...]  # what `activations` can give
    exact: bool  # every operation ran as written, so layers that IEEE 754 fixes can be compared bit for bit
    required: frozenset[str]  # keys that must be there

    def activations(self, kind: Kind) -> Iterator[Activation]:
        """Every layer in the order of computation. Only the current one is kept in memory."""


def nhwc(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """(B, C, H, W) to (B, H, W, C)."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
