"""The highest (anchor, class) pairs of one image, compiled: read where a network's outputs lie, without a copy.

`candidates.TopPairs` in two passes. The first finds every anchor's best class. With A anchors whose best class is at
least t, at least A pairs are: so t, the best class of the last anchor that may have a pair among the highest, bounds
what the second pass takes. Floats are compared as integers in the same order, which compilers turn into vectors.

numba, and not tensor operations: on D0 (4.4 million pairs, one thread) the whole of postprocessing takes a third of the
time it took with them, and on outputs with their channels first an eighth.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lazy_heap import compiled

Bits = NDArray[np.int32]  # of float32 values
LOWEST = -(2**31)
INFINITY, MINUS_INFINITY = 0x7F800000, -0x7F800001  # as `_ordered` has them
INDICES = 2**32 - 1  # the lower half of a key holds the pair's index, reversed, so that of equals the first is highest


class Level(NamedTuple):
    """Logits of one level: (positions, anchors * classes), or (anchors * classes, positions)."""

    bits: Bits
    channels_last: bool


def top_pairs(levels: Sequence[Level], anchors: int, classes: int, count: int) -> NDArray[np.int64] | None:
    """Keys of the `count` highest pairs, highest first, of equal ones the lower index; all where there are fewer.

    `anchors` are those of a position. None where a logit is NaN, which is for others to order.
    """
    best = [np.empty((level.bits.size // (anchors * classes), anchors), np.int32) for level in levels]
    for level, of_level in zip(levels, best, strict=True):
        of_rows = best_of_rows if level.channels_last else best_of_columns
        if of_rows(level.bits, classes, of_level):
            return None
    everything = np.concatenate([of_level.ravel() for of_level in best])
    least = LOWEST if count > everything.size else int(np.partition(everything, -count)[-count])
    keys = np.empty(int((everything >= least).sum()) * classes, np.int64)
    first, taken = 0, 0
    for level, of_level in zip(levels, best, strict=True):
        collect = collect_rows if level.channels_last else collect_columns
        taken = collect(level.bits, classes, of_level, least, first, keys, taken)
        first += of_level.size * classes
    keys = keys[:taken]
    if taken > count:
        keys = np.partition(keys, -count)[-count:]
    return np.sort(keys)[::-1]


def pairs_of(keys: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(logits, indices anchor * classes + class) that keys stand for; minus zero is zero."""
    ordered = (keys >> 32).astype(np.int32)
    return np.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).astype(np.int32).view(np.float32), INDICES - (
        keys & INDICES
    )


@compiled
def _ordered(bits: Any) -> Any:
    """An integer in the order of the floats, of 32 bits all the way: twice as many to a vector. Minus zero is -1."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@compiled
def _key(ordered: Any, index: int) -> Any:
    """Of a pair: minus zero equals zero."""
    return ((0 if ordered == -1 else np.int64(ordered)) << 32) + (INDICES - index)


@compiled
def best_of_rows(bits: Bits, classes: int, best: Bits) -> bool:
    """The highest logit of every anchor of (positions, anchors * classes) into `best`; whether any is NaN."""
    lowest = np.int32(0)
    highest = np.int32(0)
    for position in range(best.shape[0]):
        for anchor in range(best.shape[1]):
            high = np.int32(LOWEST)
            start = anchor * classes
            for offset in range(classes):
                value = _ordered(bits[position, start + offset])
                high = max(high, value)
                lowest = min(lowest, value)
            best[position, anchor] = 0 if high == -1 else high
            highest = max(highest, high)
    return bool(lowest < MINUS_INFINITY or highest > INFINITY)


@compiled
def best_of_columns(bits: Bits, classes: int, best: Bits) -> bool:
    """The same of (anchors * classes, positions)."""
    lowest = np.int32(0)
    highest = np.int32(0)
    row = np.empty(bits.shape[1], np.int32)
    for anchor in range(best.shape[1]):
        row[:] = LOWEST
        for channel in range(anchor * classes, (anchor + 1) * classes):
            for position in range(row.size):
                value = _ordered(bits[channel, position])
                row[position] = max(row[position], value)
                lowest = min(lowest, value)
        for position in range(row.size):
            best[position, anchor] = 0 if row[position] == -1 else row[position]
            highest = max(highest, row[position])
    return bool(lowest < MINUS_INFINITY or highest > INFINITY)


@compiled
def collect_rows(
    bits: Bits, classes: int, best: Bits, least: int, first: int, keys: NDArray[np.int64], taken: int
) -> int:
    """Append keys of pairs of at least `least`; `first` is the index of the level's first pair. How many there are."""
    for position in range(best.shape[0]):
        for anchor in range(best.shape[1]):
            if best[position, anchor] < least:
                continue
            for channel in range(anchor * classes, (anchor + 1) * classes):
                value = _ordered(bits[position, channel])
                if value >= least or (value == -1 and least == 0):
                    keys[taken] = _key(value, first + position * bits.shape[1] + channel)
                    taken += 1
    return taken


@compiled
def collect_columns(
    bits: Bits, classes: int, best: Bits, least: int, first: int, keys: NDArray[np.int64], taken: int
) -> int:
    """The same of (anchors * classes, positions)."""
    channels = bits.shape[0]
    for channel in range(channels):
        for position in range(bits.shape[1]):
            value = _ordered(bits[channel, position])
            if value >= least or (value == -1 and least == 0):
                keys[taken] = _key(value, first + position * channels + channel)
                taken += 1
    return taken
