"""What training scripts put around a state dict: prefixes, counters, anchors, and other types than float32."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..layout import Array
from .recognition import NAMINGS

PREFIXES = ("module.", "model.")  # of DataParallel and of a module around the network, as effdet's DetBench
COUNTER = "num_batches_tracked"  # PyTorch's, of batch norm; it takes no part
ANCHORS = "anchors.boxes"  # of effdet's DetBench, computed from its configuration


class Content(NamedTuple):
    """The tensors of a network, float32, and in words what was around them and what was made of it."""

    tensors: dict[str, Array]
    notices: list[str]


def unwrapped(stored: Mapping[str, Array]) -> Content:
    """The network's own tensors of a file's, whoever wrote it."""
    notices: list[str] = []
    tensors = {key: value for key, value in stored.items() if not key.endswith(COUNTER)}
    for prefix in PREFIXES:
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        around = [key for key in tensors if not key.startswith(prefix)]
        if inside and set(around) <= {ANCHORS}:
            tensors = inside | {key: tensors[key] for key in around}
    anchors = tensors.pop(ANCHORS, None) if _is_known(tensors) else None
    if anchors is not None:
        notices.append(f"{len(anchors):,} anchors that are kept in it are left out: {_kind(anchors)}")
    other = sorted({value.dtype.name for value in tensors.values()} - {"float32"})
    if other:
        count = sum(value.dtype != np.float32 for value in tensors.values())
        notices.append(f"{count} tensors of {' and '.join(other)} are taken as float32")
    return Content({key: _single(value) for key, value in tensors.items()}, notices)


def _is_known(tensors: Mapping[str, Array]) -> bool:
    return any(all(sign in tensors for sign in naming.signs) for naming in NAMINGS.values())


def _single(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype.kind == "f" else value


def _kind(anchors: Array) -> str:
    """Which set of anchors, told by their areas: those of before 2020-09-10 round the square roots of 2 and 1/2."""
    top, left, bottom, right = anchors[:3].astype(np.float64).T
    areas = (bottom - top) * (right - left)
    rounded = bool(np.any(np.abs(areas / areas[0] - 0.98) < 0.002))
    return "the legacy ones" if rounded else "the official ones"
