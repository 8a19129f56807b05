"""Images resized as TensorFlow does it, and as Pillow does."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (H, W, 3)
Planes = NDArray[np.float32]  # (3, H, W)
Normalise = Callable[[Pixels], Planes]
Size = tuple[int, int]  # height, width
BLOCK = 64  # rows made at a time: a few hundred kilobytes


class Axis(NamedTuple):
    """Which two source positions each output position lies between, and how far it is from the first.

    `used` are the source positions that any output needs, and `lower` and `upper` are places in that list.
    """

    used: NDArray[np.intp]
    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float32]


@lru_cache(maxsize=256)
def interpolation(given: int, wanted: int, start: int = 0, stop: int | None = None) -> Axis:
    """From `given` to `wanted` positions with half-pixel centres, in float32 as TensorFlow computes them.

    Of the `wanted` positions those from `start` to before `stop` are made, all of them by default.
    Source: TensorFlow `core/kernels/image/resize_bilinear_op.cc: compute_interpolation_weights`.
    """
    half, scale = np.float32(0.5), np.float32(given) / np.float32(wanted)
    position = (np.arange(start, wanted if stop is None else stop, dtype=np.float32) + half) * scale - half
    floor = np.floor(position)
    lower = np.maximum(floor, 0).astype(np.intp)
    upper = np.minimum(np.ceil(position), given - 1).astype(np.intp)
    used, places = np.unique(np.concatenate((lower, upper)), return_inverse=True)
    axis = Axis(used, places[: len(lower)], places[len(lower) :], position - floor)
    for array in axis:
        array.flags.writeable = False  # one cached value for all callers
    return axis


def resize_bilinear(pixels: Pixels, normalise: Normalise, out: Planes) -> None:
    """(H, W, 3) uint8, normalised, resized into `out` (3, h, w): `tf.image.resize(normalised, (h, w))`, bit for bit.

    Normalised first, pixel by pixel, then interpolated, in each row between columns and then between rows, each
    operation rounded to float32: the order of the source's `compute_lerp`. Pixels that no output needs are skipped,
    and rows are made in blocks that stay in the processor's cache.
    """
    size = (out.shape[1], out.shape[2])
    if pixels.shape[:2] == size:
        out[...] = normalise(pixels)
        return
    resize_window(pixels, normalise, size, (0, 0), out)


def resize_window(pixels: Pixels, normalise: Normalise, whole: Size, corner: Size, out: Planes) -> None:
    """The part of `resize_bilinear`'s result of size `whole` that begins at `corner` (y, x), into `out` (3, h, w).

    The same bits as cutting it out of the whole, for the work of the part alone.
    """
    size = out.shape[1:]
    rows, columns = (
        interpolation(given, wanted, start, start + length)
        for given, wanted, start, length in zip(pixels.shape[:2], whole, corner, size, strict=True)
    )
    if len(rows.used) < pixels.shape[0]:
        pixels = pixels[rows.used]
    if len(columns.used) < pixels.shape[1]:
        pixels = pixels[:, columns.used]
    across, first, second = (np.empty((len(rows.used), size[1]), np.float32) for _ in range(3))
    upper, lower = np.empty((2, BLOCK, size[1]), np.float32)
    for plane, target in zip(normalise(pixels), out, strict=True):
        _interpolate(plane, 1, columns, (first, second), across)
        for start in range(0, size[0], BLOCK):
            block = slice(start, min(start + BLOCK, size[0]))
            some = Axis(rows.used, rows.lower[block], rows.upper[block], rows.weight[block, None])
            count = block.stop - start
            _interpolate(across, 0, some, (lower[:count], upper[:count]), target[block])


def _interpolate(
    plane: NDArray[np.float32], dimension: int, axis: Axis, spare: tuple[NDArray[np.float32], ...], out: Planes
) -> None:
    """lower + (upper - lower) * weight into `out`, three roundings; `spare` are two arrays of its shape to work in."""
    lower, upper = spare
    # Every index is in range; without "clip" numpy would first gather into an array of its own.
    np.take(plane, axis.lower, dimension, lower, "clip")
    np.take(plane, axis.upper, dimension, upper, "clip")
    upper -= lower
    upper *= axis.weight
    np.add(upper, lower, out=out)


def resize_antialiased(pixels: Pixels, normalise: Normalise, out: Planes) -> None:
    """(H, W, 3) uint8 resized into `out` (3, h, w) by Pillow's bilinear filter, which averages when it shrinks and
    rounds to uint8, then normalised. What most ports do; up to 0.19 from the official input on photographs.
    """
    from PIL import Image

    resized = Image.fromarray(pixels).resize(out.shape[:0:-1], Image.Resampling.BILINEAR)
    out[...] = normalise(np.asarray(resized))
