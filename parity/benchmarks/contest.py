"""Contestants of a benchmark taking turns in one process, on one thread each, with a probe of the machine around them.

Ratios of medians are what is reported: on a machine that others use, seconds come and go, and so do they for everyone.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch

from ...errors import EffconvError
from ..provenance import provenance, version
from .contest_records import ContestRow, MeasuredContest, Probe, Turn

THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
PROBE_SIDE = 768  # of the matrices
Given = TypeVar("Given")


def require_tensorflow() -> None:
    """Raises EffconvError when the other side of a benchmark is not installed."""
    if not version("tensorflow"):
        raise EffconvError("the other side of this benchmark is TensorFlow: pip install tensorflow")


def use_one_thread() -> None:
    """One thread for PyTorch, and for TensorFlow where it is not started yet; `processor_seconds` shows what was."""
    import torch

    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    torch.set_num_threads(1)


def probe() -> float:
    """GFLOP/s of a float32 matrix product on one thread, median of five: how free the machine is."""
    import torch

    left = torch.from_numpy(np.random.default_rng(0).standard_normal((PROBE_SIDE, PROBE_SIDE), np.float32))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(left, left)
        seconds.append(time.perf_counter() - start)
    return 2 * PROBE_SIDE**3 / statistics.median(seconds[1:]) / 1e9


def take_turns(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Turn]]:
    """{name: `rounds` turns}; every round starts with another contestant.

    A turn runs its contestant twice, and the second time counts: the first follows another contestant in the same
    process, and may find caches, the heap or threads as that one left them.
    """
    names = list(contestants)
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            contestants[name]()
            start, processor_start = time.perf_counter(), time.process_time()
            contestants[name]()
            seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
            turns[name].append(Turn(seconds=seconds, processor_seconds=processor_seconds))
    return turns


def rows(turns: Mapping[str, Sequence[Turn]], beside: Mapping[str, str], items: int) -> tuple[ContestRow, ...]:
    """The median of each contestant per item, and how many times that of the contestant it stands beside.

    `beside` maps each contestant to the one of ours it is compared with.
    """
    medians = {name: statistics.median(turn.seconds for turn in each) for name, each in turns.items()}
    return tuple(
        ContestRow(
            contestant=name,
            seconds_per_item=medians[name] / items,
            beside=beside[name],
            ratio=medians[name] / medians[beside[name]],
            processors_used=statistics.median(turn.processor_seconds / turn.seconds for turn in turns[name]),
        )
        for name in turns
    )


def measure(
    contestants: Mapping[str, Callable[[], object]], beside: Mapping[str, str], rounds: int, items: int
) -> MeasuredContest:
    """The part of a record that all contests share: probes, rows, every single turn, provenance."""
    before = probe()
    turns = take_turns(contestants, rounds)
    return MeasuredContest(
        rounds=rounds,
        items=items,
        probe_gflops=Probe(before=before, after=probe()),
        rows=rows(turns, beside, items),
        turns={name: tuple(each) for name, each in turns.items()},
        provenance=provenance(),
    )


def use_threads(threads: int) -> None:
    """So many for PyTorch, for numerical libraries, and for TensorFlow where it is not started yet."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    torch.set_num_threads(threads)


def over(images: Sequence[Given], step: Callable[[Given], object]) -> Callable[[], None]:
    """One turn: the step on every image, or batch of them."""

    def turn() -> None:
        for image in images:
            step(image)

    return turn
