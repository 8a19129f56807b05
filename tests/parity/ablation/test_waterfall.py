"""A gap split over differences: by hand, and what must hold for any of them."""

import itertools
import random

import pytest

from effconv.errors import EffconvError
from effconv.parity.ablation.waterfall import waterfall, waterfall_lines


def test_by_hand() -> None:
    """`a` costs 1 and `b` 2; together they cost 5, so half of the other 2 belongs to each."""
    values = {(): 10.0, ("a",): 9.0, ("b",): 8.0, ("a", "b"): 5.0}
    found = waterfall(["a", "b"], values.__getitem__)
    assert found.parts == {"a": -2.0, "b": -3.0}
    assert found.alone == {"a": -1.0, "b": -2.0}
    assert (found.gap, found.interaction, found.evaluations) == (-5.0, -2.0, 4)
    assert waterfall_lines(found)[0].split() == ["official", "10.0000"]
    assert "b                      -3.0000   alone -2.0000" in waterfall_lines(found)[1]
    assert "interaction -2.0000" in waterfall_lines(found)[-1]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_parts_add_up_and_do_not_depend_on_the_order(count: int) -> None:
    names = [f"change {number}" for number in range(count)]
    drawn: dict[frozenset[str], float] = {}

    def value(chosen: tuple[str, ...]) -> float:
        return drawn.setdefault(frozenset(chosen), random.Random(str(sorted(chosen))).random())

    found = waterfall(names, value)
    assert sum(found.parts.values()) == pytest.approx(found.gap)
    assert found.evaluations == 2**count
    other = waterfall(names[::-1], value)
    assert other.parts == pytest.approx(found.parts)


def test_every_order_counts_as_often_as_any_other() -> None:
    """The mean over the 24 orders of four differences, each made after those before it."""
    names = ["a", "b", "c", "d"]

    def value(chosen: tuple[str, ...]) -> float:
        return random.Random("".join(sorted(chosen))).random()

    orders = list(itertools.permutations(names))
    gains = {
        name: [value(order[: order.index(name) + 1]) - value(order[: order.index(name)]) for order in orders]
        for name in names
    }
    assert waterfall(names, value).parts == pytest.approx({name: sum(gains[name]) / 24 for name in names})


def test_what_changes_nothing_has_no_part() -> None:
    found = waterfall(["a", "nothing", "b"], lambda chosen: float(len(set(chosen) - {"nothing"})) ** 2)
    assert found.parts == pytest.approx({"a": 2.0, "nothing": 0.0, "b": 2.0})
    assert found.interaction == pytest.approx(2.0)


@pytest.mark.parametrize("count", [1, 7])
def test_too_few_or_many(count: int) -> None:
    with pytest.raises(EffconvError, match=f"2 to 6 differences, found {count}"):
        waterfall([str(number) for number in range(count)], lambda chosen: 0.0)
