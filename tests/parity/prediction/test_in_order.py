"""Threads that work ahead: as much as they may, in order, with the errors of one after another."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from effconv.parity.prediction.in_order import in_order

AHEAD = 2


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


def test_results_are_in_the_things_order(threads: ThreadPoolExecutor) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (5 - number % 5))  # later ones are done before earlier ones
        return number * number

    expected = [number * number for number in range(20)]
    assert [*in_order(work, range(20), threads, AHEAD)] == expected
    assert [*in_order(work, range(20), None, AHEAD)] == expected
    assert [*in_order(work, [], threads, AHEAD)] == []


def test_no_more_are_begun_than_may_be(threads: ThreadPoolExecutor) -> None:
    """Of a folder of thousands of pictures, a few are in memory."""
    taken: list[int] = []

    def things() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    for asked, _ in enumerate(in_order(str, things(), threads, AHEAD)):
        assert len(taken) <= asked + 1 + AHEAD
    assert len(taken) == 20


def test_others_are_worked_on_while_one_is_used(threads: ThreadPoolExecutor) -> None:
    begun = [threading.Event() for _ in range(4)]
    for number in in_order(lambda each: begun[each].set() or each, range(4), threads, 1):
        assert begun[min(number + 1, 3)].wait(5)


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_an_error_comes_in_its_turn(ahead: int, threads: ThreadPoolExecutor) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (5 - number))
        return 1 // (3 - number)

    def things() -> Iterator[int]:
        yield from range(3)
        raise ValueError("no fourth")

    for pool in (None, threads):
        assert until_failure(in_order(work, range(6), pool, ahead)) == ([0, 0, 1], ZeroDivisionError)
        assert until_failure(in_order(work, things(), pool, ahead)) == ([0, 0, 1], ValueError)


def until_failure(results: Iterator[int]) -> tuple[list[int], type[Exception] | None]:
    found: list[int] = []
    try:
        for each in results:
            found.append(each)
    except Exception as error:  # noqa: BLE001  # whichever it is
        return found, type(error)
    return found, None
