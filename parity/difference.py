"""How far two arrays are apart, in several measures at once. Pure numpy; a large layer is gone through in parts."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

PART = 1 << 16  # values looked at in one go, so that temporaries stay in the processor's cache
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
    for part in _parts(array):
        if not np.isfinite(part).all():
            return f"{'NaN' if np.isnan(part).any() else 'infinity'} in the {whose}"
    return ""


def largest(array: Array) -> float:
    """max |x|."""
    return max(float(np.abs(part).max()) for part in _parts(array))


def relative_error(candidate: Array, reference: Array, scale: float) -> float:
    """max |a - b| / scale; where the scale is zero, 0 for equal arrays and infinity for others."""
    pairs = zip(_parts(candidate), _parts(reference), strict=True)
    return _ratio(max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in pairs), scale)


def times_bound(candidate: Array, reference: Array, bound: Array, more: float = 0.0) -> float:
    """The largest |a - b| / (bound + more), element by element: at most 1 where all are within."""
    return error_and_times(candidate, reference, 1.0, bound, more)[1]


def error_and_times(
    candidate: Array, reference: Array, scale: float, bound: Array, more: float = 0.0
) -> tuple[float, float]:
    """(`relative_error`, `times_bound`) of the same two arrays, which are gone through once."""
    error = worst = 0.0
    for a, b, limit in zip(_parts(candidate), _parts(reference), _parts(bound), strict=True):
        gap = np.subtract(a, b, dtype=np.float64)
        np.abs(gap, out=gap)
        error = max(error, float(gap.max()))
        allowed = limit + more
        if allowed.all():
            worst = max(worst, float(np.divide(gap, allowed, out=gap).max()))
            continue
        # Where nothing may differ, a difference is infinitely far out.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = gap / allowed
        worst = max(worst, float(np.max(ratio, where=gap > 0, initial=0.0)))
    return _ratio(error, scale), worst


def apart(array: Array | None, exact: Array | None) -> float:
    """How far a run is from the exact one, by the exact one's largest; 0 where either does not compute the layer."""
    if array is None or exact is None or array.shape != exact.shape:
        return 0.0
    return relative_error(array, exact, largest(exact))


def difference(candidate: Array, reference: Array, scale: float) -> Difference:
    """All distances between two finite arrays of one shape and type; `scale` is the reference's largest magnitude.

    Arrays are (B, H, W, C), or of one axis, which has no heat map.
    """
    squares = reference_squares = candidate_squares = product = 0.0
    apart = []  # the largest |a - b| of each pixel's channels
    channels = candidate.shape[-1] if candidate.ndim == 4 else 1
    for a, b in zip(_parts(candidate), _parts(reference), strict=True):
        # In the wider type, so that the subtraction itself does not round.
        a64, b64 = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
        gap = a64 - b64
        # Four times as fast as `max(-1)`, which is slow where an axis is short.
        apart.append(np.maximum.reduceat(np.abs(gap), np.arange(0, gap.size, channels)))
        squares += float(gap @ gap)
        reference_squares += float(b64 @ b64)
        candidate_squares += float(a64 @ a64)
        product += float(a64 @ b64)
    gaps = np.concatenate(apart)
    worst = float(gaps.max())
    a, b = _sampled(candidate), _sampled(reference)
    histogram, zeros = _histogram(a, b, scale)
    length = np.sqrt(candidate_squares) * np.sqrt(reference_squares)
    return Difference(
        error=_ratio(worst, scale),
        rms=_ratio(float(np.sqrt(squares)), float(np.sqrt(reference_squares))),
        cosine=float(product / length) if length else float(candidate_squares == reference_squares),
        ulp=_ulp(a, b, ULP_RANGE * scale) if worst else 0.0,
        histogram=histogram,
        zeros=zeros,
        heat=_heat(gaps.reshape(candidate.shape[:3]), scale) if candidate.ndim == 4 else None,
    )


def _ratio(value: float, scale: float) -> float:
    if scale == 0:
        return 0.0 if value == 0 else float("inf")
    return value / scale


def _parts(array: Array) -> Iterator[Array]:
    """The array along its rows, in parts of about PART values."""
    if array.ndim != 4:
        for start in range(0, max(len(array), 1), PART):
            yield array[start : start + PART]
        return
    rows = max(1, PART // max(1, array.shape[2] * array.shape[3]))
    for image in array:
        for start in range(0, image.shape[0], rows):
            yield image[start : start + rows]


def _sampled(array: Array) -> Array:
    every = int(np.ceil(np.sqrt(array.size / SAMPLE)))
    return array[:, ::every, ::every] if array.ndim == 4 else array[:: every * every]


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
    # Exact up to 2**53; larger distances are rounded, because those between float64 values can exceed an int64.
    return float(np.abs(first.astype(np.longdouble) - second.astype(np.longdouble)).max(initial=0))


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
