"""Every measure of difference against its formula, written out in plain numpy on whole arrays."""

import numpy as np
import pytest

from effconv.parity import difference as module
from effconv.parity import gaps
from effconv.parity.difference import (
    HEAT_CELLS,
    HISTOGRAM_BINS,
    HISTOGRAM_LOW,
    HISTOGRAM_WIDTH,
    ULP_RANGE,
    Array,
    apart,
    difference,
    fault_of,
    largest,
    relative_error,
)

PART, SAMPLE = 60, 200  # small, so that small arrays have several parts and are sampled
# Ragged sizes: below, at and above a part, a row longer than a part, one value.
SHAPES = [
    (1, 1, 1, 1),
    (2, 7, 5, 3),
    (1, 4, 5, 3),
    (1, 5, 4, 3),
    (3, 2, 9, 7),
    (1, 33, 40, 2),
    (2, 64, 31, 1),
    (1, 3, 99, 1),
]
LENGTHS = [(1,), (59,), (60,), (61,), (199,), (200,), (201,), (1000,)]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", PART)
    monkeypatch.setattr(gaps, "PART", PART)
    monkeypatch.setattr(gaps, "CHANNELS", 4)
    monkeypatch.setattr(module, "SAMPLE", SAMPLE)


def pair(shape: tuple[int, ...], dtype: str, permuted: bool, gap: float = 1e-3) -> tuple[Array, Array]:
    """Two arrays a little apart; permuted ones are views of (B, C, H, W) memory, as the candidate's are."""
    random = np.random.default_rng(len(shape) * 1000 + sum(shape))
    stored = (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape
    arrays = []
    reference = random.standard_normal(stored)
    for values in (reference + gap * random.standard_normal(stored), reference):
        array = values.astype(dtype)
        if len(shape) == 4:
            array = array.transpose(0, 2, 3, 1)
        arrays.append(array if permuted else np.ascontiguousarray(array))
    return arrays[0], arrays[1]


def sampled(array: Array) -> Array:
    every = 1
    while every * every * SAMPLE < array.size:
        every += 1
    return array[:, ::every, ::every] if array.ndim == 4 else array[:: every**2]


def ordered(value: np.floating) -> int:
    """The float's place in the line of all floats of its type, with zero at 0."""
    magnitude = int(np.abs(value).view(f"u{value.itemsize}"))
    return -magnitude if value < 0 else magnitude


def plain_ulp(a: Array, b: Array, least: float) -> int:
    pairs = zip(sampled(a).ravel(), sampled(b).ravel(), strict=True)
    return max((abs(ordered(x) - ordered(y)) for x, y in pairs if abs(y) >= least), default=0)


def cells_of(side: int) -> list[slice]:
    """The pixels of each cell of a heat map along one axis."""
    count = min(side, HEAT_CELLS)
    return [slice(cell * side // count, (cell + 1) * side // count) for cell in range(count)]


def plain_heat(gap: Array, scale: float) -> Array:
    rows, columns = (cells_of(side) for side in gap.shape[1:3])
    return np.array([[gap[:, row, column].max() / scale for column in columns] for row in rows], np.float32)


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [*SHAPES, *LENGTHS])
def test_every_measure_is_its_formula(shape: tuple[int, ...], dtype: str, permuted: bool) -> None:
    a, b = pair(shape, dtype, permuted)
    scale = float(np.abs(b).max())
    assert largest(b) == scale
    found = difference(a, b, scale)
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    gap = a64 - b64
    assert found.error == relative_error(a, b, scale) == np.abs(gap).max() / scale
    assert found.rms == pytest.approx(np.sqrt((gap**2).sum() / (b64**2).sum()), rel=1e-12)
    cosine = (a64 * b64).sum() / np.sqrt((a64**2).sum() * (b64**2).sum())
    assert found.cosine == pytest.approx(cosine, rel=1e-12)
    assert found.ulp == plain_ulp(a, b, ULP_RANGE * scale)
    apart = sampled(np.abs(gap))
    edges = HISTOGRAM_LOW + HISTOGRAM_WIDTH * np.arange(HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(np.log10(apart[apart > 0] / scale), edges)
    assert found.histogram == tuple(counts)
    assert found.zeros == (apart == 0).sum()
    assert sum(found.histogram) + found.zeros == apart.size
    if len(shape) == 1:
        assert found.heat is None
    else:
        assert found.heat is not None
        assert np.array_equal(found.heat, plain_heat(np.abs(gap), scale))


@pytest.mark.parametrize("shape", [(2, 7, 5, 3), (61,)])
def test_equal_arrays(shape: tuple[int, ...]) -> None:
    _, b = pair(shape, "float32", True)
    found = difference(b, b.copy(), largest(b))
    assert found.error == found.rms == found.ulp == 0
    assert found.cosine == pytest.approx(1, rel=1e-12)
    assert sum(found.histogram) == 0
    assert found.zeros == sampled(b).size
    assert found.heat is None or found.heat.max() == 0


def test_a_reference_of_zeros() -> None:
    zeros = np.zeros((1, 4, 4, 2), np.float32)
    same = difference(zeros, zeros, 0.0)
    assert (same.error, same.rms, same.cosine, same.ulp) == (0, 0, 1, 0)
    other = zeros.copy()
    other[0, 2, 3, 1] = 1e-30
    found = difference(other, zeros, 0.0)
    assert found.error == found.rms == relative_error(other, zeros, 0.0) == float("inf")
    assert found.cosine == 0
    assert found.zeros == zeros.size - 1
    assert np.argwhere(found.heat).tolist() == [[2, 3]]
    gone = difference(zeros, other, largest(other))
    assert (gone.error, gone.rms, gone.cosine) == (1, 1, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [1.0, -1.0, 0.1, -3e10, 1.9999998807907104])
def test_neighbouring_floats_are_one_apart(dtype: str, value: float) -> None:
    b = np.full(3, value, dtype)
    for towards in (-np.inf, np.inf):
        a = b.copy()
        a[1] = np.nextafter(b[1], np.dtype(dtype).type(towards))
        assert difference(a, b, abs(value)).ulp == 1
        a[1] = np.nextafter(a[1], np.dtype(dtype).type(towards))
        assert difference(a, b, abs(value)).ulp == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ulp_distance_across_zero(dtype: str) -> None:
    least = np.finfo(dtype).smallest_subnormal
    b = np.array([least, -least], dtype)
    assert difference(-b, b, float(least)).ulp == 2
    assert difference(np.zeros(2, dtype), b, float(least)).ulp == 1
    assert difference(np.array([-0.0, 1], dtype), np.array([0.0, 1], dtype), 0.0).ulp == 0
    one = np.ones(1, dtype)
    # From -1 to 1 is twice as many floats as from 0 to 1, which the bits of 1 count.
    assert difference(-one, one, 1.0).ulp == 2 * int(one.view(f"i{one.itemsize}")[0])


def test_small_values_have_no_ulp_distance() -> None:
    b = np.array([1.0, ULP_RANGE, ULP_RANGE * 0.99])
    a = b.copy()
    a[2] *= 2
    assert difference(a, b, 1.0).ulp == 0
    a[1] = np.nextafter(a[1], 1)
    assert difference(a, b, 1.0).ulp == 1


@pytest.mark.parametrize("decade", [-17.75, -12.2, -6.7, -0.3, 1.8])
def test_a_difference_lands_in_the_bin_of_its_size(decade: float) -> None:
    scale = 4.0
    b = np.zeros((1, 3, 3, 2))
    b[0, 0, 0, 0] = scale
    a = b.copy()
    a[0, 1, 2, 1] = -scale * 10.0**decade
    found = difference(a, b, scale)
    assert [place for place, count in enumerate(found.histogram) if count] == [
        int((decade - HISTOGRAM_LOW) / HISTOGRAM_WIDTH)
    ]
    assert found.zeros == b.size - 1


def test_the_outer_bins_take_what_is_beyond() -> None:
    b = np.array([0.0, 0.0, 1.0])
    found = difference(np.array([1e-30, 1e9, 1.0]), b, 1.0)
    assert [place for place, count in enumerate(found.histogram) if count] == [0, HISTOGRAM_BINS - 1]


@pytest.mark.parametrize("size", [(5, 9), (32, 32), (33, 65), (40, 100)])
def test_one_pixel_lights_its_cell(size: tuple[int, int]) -> None:
    height, width = size
    b = np.ones((2, height, width, 3), np.float32)
    for image, row, column, channel in [(0, 0, 0, 0), (1, height - 1, width - 1, 2), (1, height // 2, 0, 1)]:
        a = b.copy()
        a[image, row, column, channel] = 1.5
        found = difference(a, b, 1.0)
        assert found.heat is not None
        lit = np.argwhere(found.heat)
        assert len(lit) == 1
        for place, cell, side in zip((row, column), lit[0], size, strict=True):
            assert place in range(side)[cells_of(side)[cell]]
        assert found.heat.max() == 0.5


@pytest.mark.parametrize("shape", [(2, 30, 5, 3), (500,)])
def test_faults_are_named(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.float32)
    assert fault_of(array, "candidate") == ""
    array.reshape(-1)[-1] = -np.inf
    assert fault_of(array, "candidate") == "infinity in the candidate"
    array.reshape(-1)[-2] = np.nan
    assert fault_of(array, "reference") == "NaN in the reference"


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        relative_error(np.zeros((1, 40, 4, 4)), np.zeros((2, 40, 4, 4)), 1.0)


def test_subtracting_does_not_round() -> None:
    b = np.array([-1e-9, 1.0], np.float32)
    a = np.array([1.0, 1.0], np.float32)
    gap = 1 - float(b[0])
    assert gap > 1
    assert (
        relative_error(a, b, 1.0) == relative_error(a, b.astype(np.float64), 1.0) == difference(a, b, 1.0).error == gap
    )


def test_a_difference_too_small_to_divide_is_counted_without_a_warning() -> None:
    b = np.array([0.0, 100.0])
    with np.errstate(divide="raise"):
        found = difference(np.array([5e-324, 100.0]), b, 100.0)
    assert found.histogram[0] == 1
    assert found.zeros == 1


def test_how_far_apart_a_run_is_that_may_lack_the_layer() -> None:
    exact = np.array([1.0, -4.0])
    assert apart(np.array([1.0, -3.0]), exact) == 0.25
    assert apart(exact[:1], exact) == 0
    assert apart(None, exact) == 0
    assert apart(exact, None) == 0
