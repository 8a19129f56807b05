"""Arrays gone through in parts, by several processors: what is found is what whole arrays give."""

import math

import numpy as np
import pytest

from effconv.parity import gaps
from effconv.parity.gaps import Pair, measure

SHAPE = (2, 7, 9, 11)


def arrays() -> list[np.ndarray]:
    """Two sides and two bounds; the first and the last are views of (B, C, H, W) memory."""
    random = np.random.default_rng(0)
    a = random.standard_normal((SHAPE[0], SHAPE[3], *SHAPE[1:3])).transpose(0, 2, 3, 1)
    b = np.ascontiguousarray(a + 1e-3 * random.standard_normal(SHAPE), np.float32)
    return [a, b, *(random.uniform(1e-3, 2e-3, array.shape).astype(array.dtype) for array in (b, a))]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PART": 60, "CHANNELS": 4, "LARGE": 1}.items():
        monkeypatch.setattr(gaps, name, value)


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_any_number_of_processors_finds_the_same(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arrays()
    monkeypatch.setattr(gaps, "processors", lambda: count)
    within, plain = measure(given, [Pair(0, 1, (2, 3), 1e-4, moments=True), Pair(1, 0)])
    gap = np.abs(given[0] - given[1])
    allowed = given[2].astype(np.float64) + given[3] + 1e-4
    assert within.largest == plain.largest == gap.max()
    assert within.times == pytest.approx((gap / allowed).max(), rel=1e-14)
    assert within.bound == pytest.approx(allowed.max(), rel=1e-14)
    assert within.moments is not None
    assert np.array_equal(within.moments.pixels, gap.max(-1))
    assert (plain.times, plain.bound, plain.moments) == (0, 0, None)
    monkeypatch.setattr(gaps, "processors", lambda: 1)
    (alone,) = measure(given, [Pair(0, 1, moments=True)])
    assert alone.moments is not None
    assert within.moments[:4] == alone.moments[:4]


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 6, 8, 10)])
def test_nothing_hides_in_a_part(place: tuple[int, ...]) -> None:
    """NaN on either side or in a bound, and a difference where none is allowed, are within nothing."""
    for which in range(3):
        given = arrays()
        given[which][place] = math.nan
        assert math.isnan(measure(given, [Pair(0, 1, (2,))])[0].times)
    given[0][place] = given[1][place]  # a bound that is no number allows nothing, equal values neither
    assert math.isnan(measure(given, [Pair(0, 1, (2,))])[0].times)
    given = arrays()
    given[2][place] = 0
    assert measure(given, [Pair(0, 1, (2,))])[0].times == math.inf
    given[0][place] = given[1][place]
    assert 0 < measure(given, [Pair(0, 1, (2,))])[0].times < math.inf
