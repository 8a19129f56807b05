"""Work on many things by threads: a bounded number ahead of what is asked for, results in the order of the things."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def in_order(
    work: Callable[[Given], Made], things: Iterable[Given], threads: Executor | None, ahead: int
) -> Iterator[Made]:
    """What `work` makes of each thing, up to `ahead` begun besides the one asked for; without threads, one by one.

    An error of `work` is raised when its thing's turn comes, and one of `things` when all before it are done: in the
    order it has without threads. An interruption is raised at once.
    """
    if threads is None:
        yield from map(work, things)
        return
    begun: deque[Future[Made]] = deque()
    left, failure = iter(things), None
    while True:
        while failure is None and len(begun) <= ahead:
            try:
                begun.append(threads.submit(work, next(left)))
            except Exception as error:  # noqa: BLE001  # raised below; StopIteration is the ordinary end
                failure = error
        if not begun:
            break
        yield begun.popleft().result()
    if failure is not None and not isinstance(failure, StopIteration):
        raise failure
