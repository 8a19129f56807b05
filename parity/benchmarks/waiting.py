"""What threads that wait for each other cost, with and without a neighbour: `effconv bench waiting`."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...effdet_torch.config import get_config
from ...waiting import SETTINGS, SPINS
from ..plain import Plain
from ..provenance import provenance
from ..rendering.markdown import markdown_table
from .process import PROGRAMS, make_checkpoint, run_process

ENGINE = "fast"
REPEATS = 15  # in a process
OURS = f"{SPINS} turns"  # as effconv's commands wait
# How threads wait: the environment, and how many threads there are.
WAYS: dict[str, tuple[dict[str, str], int]] = {
    "as OpenMP has it": ({}, 2),
    "30000 turns": ({"GOMP_SPINCOUNT": "30000"}, 2),
    OURS: ({"GOMP_SPINCOUNT": SPINS}, 2),
    "3000 turns": ({"GOMP_SPINCOUNT": "3000"}, 2),
    "asleep": ({"OMP_WAIT_POLICY": "PASSIVE"}, 2),
    "one thread": ({}, 1),
}
NEIGHBOURS = 0, 1


@dataclass(frozen=True, kw_only=True)
class WaitingRow(Plain):
    """One way to wait: medians of processes, by NEIGHBOURS."""

    way: str
    threads: int
    milliseconds: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class WaitingRecord(Plain):
    """`effconv bench waiting`."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    processors: int
    rounds: int
    rows: tuple[WaitingRow, ...]
    provenance: Any


def measure_waiting(model: str, processors: int, rounds: int, command: str) -> WaitingRecord:
    """A record of forward passes in fresh processes that take turns, alone and beside a process that never rests.

    Raises EffconvError as the processes fail.
    """
    config = get_config(model)
    measured: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        prefix = f"{folder}/model"
        make_checkpoint(model, prefix)
        for _ in range(rounds):
            for neighbours in NEIGHBOURS:
                with _busy(neighbours):
                    for way, (settings, threads) in WAYS.items():
                        words = (ENGINE, model, prefix, "1", str(threads), str(REPEATS), "kept")
                        run = run_process(f"{PROGRAMS}.time_work", *words, environment=_environment(settings, threads))
                        measured.setdefault((way, neighbours), []).append(float(run.output.split()[0]))
    return WaitingRecord(
        what="forward passes by how threads wait, alone and beside a busy process; fresh processes, medians",
        command=command,
        model=config.name,
        image_size=config.image_size,
        processors=processors,
        rounds=rounds,
        rows=tuple(
            WaitingRow(
                way=way,
                threads=threads,
                milliseconds=(
                    1e3 * statistics.median(measured[way, NEIGHBOURS[0]]),
                    1e3 * statistics.median(measured[way, NEIGHBOURS[1]]),
                ),
            )
            for way, (_, threads) in WAYS.items()
        ),
        provenance=provenance() | {"dtype": "float32"},
    )


def _environment(settings: Mapping[str, str], threads: int) -> dict[str, str]:
    """This process's, with no other word on how OpenMP waits than `settings`."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return kept | {"OMP_NUM_THREADS": str(threads)} | dict(settings)


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def waiting_table(record: WaitingRecord) -> str:
    """A row per way to wait as Markdown."""
    rows = [
        [
            f"**{row.way}**, as effconv's commands" if row.way == OURS else row.way,
            row.threads,
            *(f"{each:.0f}" for each in row.milliseconds),
        ]
        for row in record.rows
    ]
    size = "x".join(map(str, record.image_size))
    note = f"{record.model} at {size}, batch 1, {record.processors} processors, medians of {record.rounds} processes."
    heading = ("threads wait", "threads", "ms alone", "ms beside a busy process")
    return f"{markdown_table(heading, rows)}\n\n{note}"
