"""What it costs that freed memory goes back to the system, and is asked for again: `effconv bench allocation`."""

import statistics
import tempfile
from dataclasses import dataclass
from typing import Any

from ...effdet_torch.config import get_config
from ..plain import Plain
from ..provenance import provenance
from ..rendering.markdown import markdown_table
from .process import MEGABYTE, PROGRAMS, make_checkpoint, run_process

WAYS = ("given back", "kept")
WORK = (("eager", 1), ("eager", 8), ("fast", 1), ("fast", 8), ("training", 4))  # and how many images at once
REPEATS = 5  # in a process


@dataclass(frozen=True, kw_only=True)
class AllocationRow(Plain):
    """One work, by a process that gives freed memory back and one that keeps it: medians of processes."""

    work: str  # an engine of `engines.ENGINES`, or forward and backward passes
    batch: int
    milliseconds_per_image: tuple[float, float]  # by WAYS
    page_faults_per_image: tuple[float, float]
    peak_megabytes: tuple[float, float]
    times_faster: float


@dataclass(frozen=True, kw_only=True)
class AllocationRecord(Plain):
    """`effconv bench allocation`."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    threads: int
    rounds: int
    rows: tuple[AllocationRow, ...]
    provenance: Any


def measure_allocation(model: str, threads: int, rounds: int, command: str) -> AllocationRecord:
    """A record of networks and training steps in fresh processes that take turns. Raises EffconvError as they fail."""
    config = get_config(model)
    program = f"{PROGRAMS}.time_work"
    with tempfile.TemporaryDirectory() as folder:
        prefix = f"{folder}/model"
        make_checkpoint(model, prefix)
        measured: dict[tuple[str, int, str], list[tuple[float, float, float]]] = {}
        for _ in range(rounds):
            for work, batch in WORK:
                for way in WAYS:
                    words = (work, model, prefix, str(batch), str(threads), str(REPEATS), way)
                    run = run_process(program, *words)
                    seconds, faults = (float(word) for word in run.output.split())
                    measured.setdefault((work, batch, way), []).append((seconds, faults, run.peak_bytes))
    return AllocationRecord(
        what="freed memory given back to the system or kept, fresh processes taking turns, medians",
        command=command,
        model=config.name,
        image_size=config.image_size,
        threads=threads,
        rounds=rounds,
        rows=tuple(_row(work, batch, [measured[work, batch, way] for way in WAYS]) for work, batch in WORK),
        provenance=provenance() | {"dtype": "float32"},
    )


def _row(work: str, batch: int, ways: list[list[tuple[float, float, float]]]) -> AllocationRow:
    (given_seconds, given_faults, given_peak), (kept_seconds, kept_faults, kept_peak) = (
        [statistics.median(column) for column in zip(*runs, strict=True)] for runs in ways
    )
    return AllocationRow(
        work=work,
        batch=batch,
        milliseconds_per_image=(1e3 * given_seconds, 1e3 * kept_seconds),
        page_faults_per_image=(given_faults, kept_faults),
        peak_megabytes=(given_peak / MEGABYTE, kept_peak / MEGABYTE),
        times_faster=given_seconds / kept_seconds,
    )


def allocation_table(record: AllocationRecord) -> str:
    """A row per work as Markdown."""
    heading = ("work", "batch", "ms per image", "times faster", "page faults per image", "peak memory")
    rows = [
        [
            "forward and backward" if row.work == "training" else row.work,
            row.batch,
            "{:.0f}, kept {:.0f}".format(*row.milliseconds_per_image),
            f"{row.times_faster:.2f}",
            "{:,.0f}, kept {:,.0f}".format(*row.page_faults_per_image),
            "{:.0f} MB, kept {:.0f} MB".format(*row.peak_megabytes),
        ]
        for row in record.rows
    ]
    size = "x".join(map(str, record.image_size))
    note = f"{record.model} at {size}, {record.threads} threads, medians of {record.rounds} processes."
    return f"{markdown_table(heading, rows)}\n\n{note}"
