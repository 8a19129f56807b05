"""What training scripts put around a state dict: prefixes, counters, anchors, and other types than float32."""

from collections.abc import Mapping
from typing import Any, NamedTuple

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
    anchors: dict[str, Any] | None = None  # what the anchors in it say of the model (`described_anchors`)


def unwrapped(stored: Mapping[str, Array]) -> Content:
    """The network's own tensors of a file's, whoever wrote it."""
    notices: list[str] = []
    tensors = {key: value for key, value in stored.items() if not key.endswith(COUNTER)}
    for prefix in PREFIXES:
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        around = [key for key in tensors if not key.startswith(prefix)]
        if inside and set(around) <= {ANCHORS}:
            tensors = inside | {key: tensors[key] for key in around}
    described = None
    anchors = tensors.pop(ANCHORS, None) if _is_known(tensors) else None
    if anchors is not None:
        described = described_anchors(anchors)
        notices.append(f"{len(anchors):,} anchors that are kept in it are left out: the {described['set']} ones")
    other = sorted({value.dtype.name for value in tensors.values()} - {"float32"})
    if other:
        count = sum(value.dtype != np.float32 for value in tensors.values())
        notices.append(f"{count} tensors of {' and '.join(other)} are taken as float32")
    return Content({key: _single(value) for key, value in tensors.items()}, notices, described)


def _is_known(tensors: Mapping[str, Array]) -> bool:
    return any(all(sign in tensors for sign in naming.signs) for naming in NAMINGS.values())


def _single(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype.kind == "f" else value


def described_anchors(anchors: Array) -> dict[str, Any]:
    """What anchors (N, 4), as effdet's `Anchors` lists them, say: the image size, the anchors' scale, their aspects.

    `image_size` is (height, width) in pixels, multiples of the lowest level's stride. `aspects` are width by height,
    in the order of the anchors. The `set` is told by areas: anchors of before 2020-09-10, "legacy", round the square
    roots of 2 and 1/2.
    """
    top, left, bottom, right = anchors.astype(np.float64).T
    heights, widths = bottom - top, right - left
    rows, columns = (top + bottom) / 2, (left + right) / 2
    areas = heights * widths
    # Only anchors of the lowest level have this centre, a point, to float32's rounding.
    at_first = int(np.sum((np.abs(rows - rows[0]) < 0.01) & (np.abs(columns - columns[0]) < 0.01)))
    aspects = (widths / heights)[:at_first].round(3)
    return {
        "image_size": [round(float(centres.max() + centres[0])) for centres in (rows, columns)],
        "anchor_scale": round(float(np.sqrt(areas[0]) / (2 * rows[0])), 3),
        "aspects": [float(aspect) for aspect in dict.fromkeys(aspects)],
        "set": "legacy" if np.any(np.abs(areas[:3] / areas[0] - 0.98) < 0.002) else "official",
    }
