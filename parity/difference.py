"""How far two arrays are apart, in several measures at once. Pure numpy; a large layer is gone through in parts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .gaps import Array, Gap, Pair, measure, spread

PART = 1 << 16  # values of one array looked at in one go, so that temporaries stay in the processor's cache
SAMPLE = 1 << 17  # values that histogram and ulp distance are made from: every k-th row and column of a larger layer
ULP_RANGE = 1e-3  # smaller values, relative to the layer's largest, are left out of the ulp distance
HEAT_CELLS = 32  # rows and columns of a heat map, at most
HISTOGRAM_LOW, HISTOGRAM_WIDTH, HISTOGRAM_BINS = -18.0, 0.5, 40  # decades: 1e-18 to 1e2


class Difference(NamedTuple):
    """Distances of `candidate` from `reference`; every measure but ulp is relative to the reference."""

    error: float  # max |a - b| / max |b|
    rms: float  # root mean square of a - b over that of b
    cosine: float  # of the angle between the two, as vectors
    ulp: float  # largest distance in representable numbers, among sampled values of at least ULP_RANGE of the largest
    histogram: tuple[int, ...]  # of log10(|a - b| / max |b|), sampled; the outer bins take what is beyond
    zeros: int  # sampled values that are equal, which have no logarithm
    heat: NDArray[np.float32] | None  # where in the image: the largest |a - b| / max |b| of each cell; None if unknown


def fault_of(array: Array, whose: str) -> str:
    """Why an array cannot be compared: NaN or infinity in it; empty when it can."""
    for part, finite in zip(parts := _parts(array), spread(_are_finite, parts, array.size), strict=True):
        if not finite:
            return f"{'NaN' if np.isnan(part).any() else 'infinity'} in the {whose}"
    return ""


def largest(array: Array) -> float:
    """max |x|."""
    return float(np.max(spread(_largest, _parts(array), array.size)))


def relative_error(candidate: Array, reference: Array, scale: float) -> float:
    """max |a - b| / scale; where the scale is zero, 0 for equal arrays and infinity for others."""
    return ratio(measure([candidate, reference], [Pair(0, 1)])[0].largest, scale)


def times_bound(candidate: Array, reference: Array, bound: Array, more: float = 0.0) -> float:
    """The largest |a - b| / (bound + more), element by element: at most 1 where all are within."""
    return error_and_times(candidate, reference, 1.0, bound, more)[1]


def error_and_times(
    candidate: Array, reference: Array, scale: float, bound: Array, more: float = 0.0
) -> tuple[float, float]:
    """(`relative_error`, `times_bound`) of the same two arrays, which are gone through once."""
    (gap,) = measure([candidate, reference, bound], [Pair(0, 1, (2,), more)])
    return ratio(gap.largest, scale), gap.times


def apart(array: Array | None, exact: Array | None) -> float:
    """How far a run is from the exact one, by the exact one's largest; 0 where either does not compute the layer."""
    if array is None or exact is None or array.shape != exact.shape:
        return 0.0
    return relative_error(array, exact, largest(exact))


def difference(candidate: Array, reference: Array, scale: float) -> Difference:
    """All distances between two finite arrays of one shape and type; `scale` is the reference's largest magnitude.

    Arrays are (B, H, W, C), or of one axis, which has no heat map.
    """
    return distances(candidate, reference, scale, measure([candidate, reference], [Pair(0, 1, moments=True)])[0])


def distances(candidate: Array, reference: Array, scale: float, gap: Gap) -> Difference:
    """`difference` of two arrays whose gap, with its moments, was measured beside other pairs."""
    moments = gap.moments
    assert moments
    a, b = _sampled(candidate), _sampled(reference)
    histogram, zeros = _histogram(a, b, scale)
    length = np.sqrt(moments.first_squares) * np.sqrt(moments.second_squares)
    return Difference(
        error=ratio(gap.largest, scale),
        rms=ratio(float(np.sqrt(moments.squares)), float(np.sqrt(moments.second_squares))),
        cosine=float(moments.product / length) if length else float(moments.first_squares == moments.second_squares),
        ulp=_ulp(a, b, ULP_RANGE * scale) if gap.largest else 0.0,
        histogram=histogram,
        zeros=zeros,
        heat=_heat(moments.pixels, scale) if candidate.ndim == 4 else None,
    )


def ratio(value: float, scale: float) -> float:
    """value / scale; where the scale is zero, 0 for zero and infinity for others."""
    if scale == 0:
        return 0.0 if value == 0 else float("inf")
    return value / scale


def _parts(array: Array) -> list[Array]:
    """The array in parts of about PART values, in the order of its memory."""
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    flat = array.transpose(order).reshape(-1)  # a view, but for a piece of a larger array
    return [flat[start : start + PART] for start in range(0, max(len(flat), 1), PART)]


def _are_finite(parts: Sequence[Array]) -> list[bool]:
    return [bool(np.isfinite(part).all()) for part in parts]


def _largest(parts: Sequence[Array]) -> list[float]:
    return [float(np.maximum(part.max(), -part.min())) for part in parts]


def _sampled(array: Array) -> Array:
    every = int(np.ceil(np.sqrt(array.size / SAMPLE)))
    return np.ascontiguousarray(array[:, ::every, ::every] if array.ndim == 4 else array[:: every * every])


def _histogram(a: Array, b: Array, scale: float) -> tuple[tuple[int, ...], int]:
    gap = np.abs(a.astype(np.float64) - b)
    apart = np.maximum(gap[gap > 0] / (scale or 1.0), np.finfo(np.float64).tiny)  # what underflows has no logarithm
    bins = np.floor((np.log10(apart) - HISTOGRAM_LOW) / HISTOGRAM_WIDTH).clip(0, HISTOGRAM_BINS - 1).astype(int)
    counts = np.bincount(bins, minlength=HISTOGRAM_BINS)
    return tuple(int(count) for count in counts), gap.size - apart.size


def ulp_distance(a: Array, b: Array) -> float:
    """The largest distance of two finite arrays of one type, counted in representable numbers."""
    return _ulp(a, b, 0.0)


def _ulp(a: Array, b: Array, least: float) -> float:
    """Largest distance, counted in representable numbers of the arrays' type, where |b| is at least `least`."""
    chosen = np.abs(b) >= least
    first, second = _ordered(a[chosen]), _ordered(b[chosen])
    # Distances between float64 values can exceed an int64, and none an unsigned one, in which subtraction wraps around.
    apart = np.maximum(first, second).view(np.uint64) - np.minimum(first, second).view(np.uint64)
    return float(apart.max(initial=0))


def _ordered(values: Array) -> NDArray[np.int64]:
    """Integers in the order of the floats they stand for, consecutive for neighbouring floats."""
    single = values.dtype == np.float32
    bits = np.ascontiguousarray(values).view(np.int32 if single else np.int64).astype(np.int64)
    # A float's bits, as an integer, grow with its magnitude; the negative half is mirrored to come before zero.
    return np.where(bits < 0, np.int64(-(2**31) if single else -(2**63)) - bits, bits)


def _heat(gaps: NDArray[np.float64], scale: float) -> NDArray[np.float32]:
    """The largest of each cell of the image, from that of each pixel (B, H, W)."""
    rows, columns = (np.linspace(0, side, min(side, HEAT_CELLS) + 1).astype(int)[:-1] for side in gaps.shape[1:])
    cells = np.maximum.reduceat(np.maximum.reduceat(gaps.max(0), rows), columns, axis=1)
    return (cells / (scale or 1.0)).astype(np.float32)
