"""Arrays of one shape gone through once, in parts: how far pairs of them are apart, element by element.

A layer of efficientdet-d7x has up to 113 million values, TensorFlow's with the channel last in memory, PyTorch's with
the channel first. Each part is copied once, channel first and in float64, so that all further work on it is on
contiguous memory in the processor's cache. Large arrays are shared out among the processors.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Block = tuple[int, slice, slice, slice]  # image, rows, columns, channels
Given = TypeVar("Given")
Made = TypeVar("Made")

PART = 1 << 15  # values looked at in one go: 256 kB of each array, so that a handful of them stay in the cache
CHANNELS = 64  # looked at in one go: of more, a part would have too few pixels to be copied quickly
LARGE = 1 << 19  # values from which on several processors are worth it


class Pair(NamedTuple):
    """Two arrays to measure, by their place among those given."""

    first: int
    second: int
    bounds: tuple[int, ...] = ()  # arrays whose sum each |a - b| is divided by
    more: float = 0.0  # added to that sum
    moments: bool = False  # also sums of squares and products, and the largest of each pixel


class Moments(NamedTuple):
    """What of two arrays a and b needs all values: sums, and what each pixel's channels come to."""

    squares: float  # of a - b, summed
    first_squares: float
    second_squares: float
    product: float  # a * b, summed
    pixels: NDArray[np.float64]  # max |a - b| over channels, (B, H, W)


class Gap(NamedTuple):
    """How far the arrays a and b of a `Pair` are apart. NaN where one of them has NaN."""

    largest: float  # max |a - b|
    times: float  # max |a - b| / (bounds + more), infinite where only a difference of 0 is allowed; 0 without bounds
    bound: float  # max (bounds + more); 0 without bounds
    moments: Moments | None


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(work: Callable[[Sequence[Given]], list[Made]], things: Sequence[Given], size: int) -> list[Made]:
    """What `work` makes of each of the things, in order; by all processors where they are `size` >= LARGE values.

    numpy lets go of the interpreter's lock while it computes. Every processor takes each n-th thing, so a result does
    not depend on how many there are.
    """
    count = min(processors(), len(things)) if size >= LARGE else 1
    if count == 1:
        return work(things)
    with ThreadPoolExecutor(count) as threads:
        shares = list(threads.map(lambda start: work(things[start::count]), range(count)))
    return [shares[place % count][place // count] for place in range(len(things))]


def measure(arrays: Sequence[Array], pairs: Sequence[Pair]) -> list[Gap]:
    """The gap of each pair. Arrays are (B, H, W, C), or of one axis; ValueError where their shapes differ."""
    shape = arrays[0].shape
    if any(array.shape != shape for array in arrays):
        raise ValueError(f"arrays of one shape are compared, not {', '.join(str(array.shape) for array in arrays)}")
    images = [array if array.ndim == 4 else array.reshape(1, 1, -1, 1) for array in arrays]
    blocks = _blocks(images[0].shape)
    found = spread(lambda some: _of_blocks(images, pairs, some), blocks, arrays[0].size)
    return [_merged([each[place] for each in found], blocks, images[0].shape) for place in range(len(pairs))]


def _of_blocks(images: Sequence[Array], pairs: Sequence[Pair], blocks: Sequence[Block]) -> list[list[Gap]]:
    """Of every block, the gap of each pair. All blocks are worked on in the same memory, for new memory costs more
    time than the work."""
    space = np.empty((len(images) + 2, max(images[0][block].size for block in blocks)))
    found = []
    for block in blocks:
        parts = [each[block].transpose(2, 0, 1) for each in images]
        copies = [row[: parts[0].size].reshape(parts[0].shape) for row in space]
        for copy, part in zip(copies[:-2], parts, strict=True):  # the last two are to work in
            np.copyto(copy, part)
        found.append([_gap(copies, pair) for pair in pairs])
    return found


def _gap(parts: Sequence[NDArray[np.float64]], pair: Pair) -> Gap:
    """Of parts of the arrays; the last two are memory to work in."""
    a, b, gap, allowed = parts[pair.first], parts[pair.second], parts[-2], parts[-1]
    np.subtract(a, b, out=gap)
    moments = None
    if pair.moments:
        squares = _product(gap, gap)
        np.abs(gap, out=gap)
        moments = Moments(squares, _product(a, a), _product(b, b), _product(a, b), gap.max(0))
    else:
        np.abs(gap, out=gap)
    worst = float((moments.pixels if moments else gap).max())
    times = bound = 0.0
    if pair.bounds:
        np.add(parts[pair.bounds[0]], pair.more, out=allowed)
        for place in pair.bounds[1:]:
            np.add(allowed, parts[place], out=allowed)
        bound = float(allowed.max())
        times = _times(gap, allowed)
    return Gap(worst, times, bound, moments)


def _times(gap: NDArray[np.float64], allowed: NDArray[np.float64]) -> float:
    """The largest quotient, in the memory of `gap`."""
    if not allowed.min() <= 0:  # NaN too, which nothing is within
        return float(np.divide(gap, allowed, out=gap).max())
    # Where nothing may differ, a difference is infinitely far out.
    differs = gap > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.divide(gap, allowed, out=gap), where=differs, initial=0.0))


def _product(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Sum of a * b; not by BLAS, whose own threads would stand in the way of ours."""
    return float(np.einsum("i,i->", a.reshape(-1), b.reshape(-1)))


def _merged(gaps: Sequence[Gap], blocks: Sequence[Block], shape: tuple[int, ...]) -> Gap:
    largest, times, bound = (float(np.max(values)) for values in zip(*(gap[:3] for gap in gaps), strict=True))
    parts = [gap.moments for gap in gaps if gap.moments]
    if not parts:
        return Gap(largest, times, bound, None)
    pixels = np.zeros(shape[:3])
    for block, part in zip(blocks, parts, strict=True):
        cells = pixels[block[:3]]
        np.maximum(cells, part.pixels, out=cells)
    squares, first, second, product = (sum(values) for values in zip(*(part[:4] for part in parts), strict=True))
    return Gap(largest, times, bound, Moments(squares, first, second, product, pixels))


def _blocks(shape: tuple[int, ...]) -> list[Block]:
    """Parts of (B, H, W, C) with about PART values each: some channels of whole rows, or of pieces of one."""
    batch, height, width, channels = shape
    depth = min(channels, CHANNELS)
    columns = min(width, max(1, PART // max(1, depth)))
    rows = max(1, PART // max(1, width * depth))
    return [
        (image, slice(top, top + rows), slice(left, left + columns), slice(first, first + depth))
        for image in range(batch)
        for top in range(0, height, rows)
        for left in range(0, width, columns)
        for first in range(0, channels, depth)
    ]
