"""Whole runs of `effconv eval` as processes, from their start to the metrics, by engine: `effconv bench runs`."""

import json
import os
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...convert.zoo import CACHE_VARIABLE
from ...effdet_torch.config import get_config
from ...errors import EffconvError
from ..plain import Plain
from ..provenance import provenance
from ..rendering.markdown import markdown_table
from .process import SEED, make_checkpoint, run_process

ENGINES = ("eager", "fast", "onnxruntime")
BASELINE = "eager"
PROGRAM = "effconv"


@dataclass(frozen=True, kw_only=True)
class RunsRow(Plain):
    """Whole runs by one engine: medians of processes."""

    engine: str
    seconds: float  # of the process
    images_per_second: float
    times_faster: float  # than BASELINE in the same round


@dataclass(frozen=True, kw_only=True)
class RunsRecord(Plain):
    """`effconv bench runs`."""

    what: str
    command: str
    model: str
    image_size: tuple[int, int]  # height, width
    checkpoint: str
    images: int
    threads: int
    rounds: int
    rows: tuple[RunsRow, ...]
    seconds: Mapping[str, tuple[float, ...]]  # by engine, of every round
    provenance: Any


def measure_runs(folder: Path, model: str, threads: int, rounds: int, command: str) -> RunsRecord:
    """A record of evaluating a dataset with random weights, in fresh processes that take turns, another first each
    round.

    The first run of each engine is not counted: it exports the graph, which later ones find, and compiles what is kept.
    Raises EffconvError as the processes fail, and where one did other work than it was asked for.
    """
    config = get_config(model)
    seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    images: set[int] = set()
    with tempfile.TemporaryDirectory() as temporary:
        prefix = f"{temporary}/model"
        make_checkpoint(model, prefix)
        # A cache of its own: graphs of random weights are no one else's.
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), CACHE_VARIABLE: f"{temporary}/cache"}
        words = ("eval", "--model", model, "--ckpt", prefix, "--coco", str(folder), "--json", "--engine")
        for turn in range(-1, rounds):
            first = turn % len(ENGINES)
            for engine in (*ENGINES[first:], *ENGINES[:first]):
                run = run_process(PROGRAM, *words, engine, environment=environment)
                images.add(_images_of(run.output, engine))
                if turn >= 0:
                    seconds[engine].append(run.seconds)
    if len(images) > 1:
        raise EffconvError(f"{folder}: changed while it was measured on: {sorted(images)} images were evaluated")
    (count,) = images
    return RunsRecord(
        what="whole runs of `effconv eval`, start included; fresh processes that take turns, medians",
        command=command,
        model=config.name,
        image_size=config.image_size,
        checkpoint=f"official variables, random values, seed {SEED}",
        images=count,
        threads=threads,
        rounds=rounds,
        rows=tuple(_row(engine, seconds, count) for engine in ENGINES),
        seconds={engine: tuple(each) for engine, each in seconds.items()},
        provenance=provenance() | {"dtype": "float32"},
    )


def _images_of(output: str, engine: str) -> int:
    """How many images a run evaluated. Raises EffconvError where another engine ran than was asked for."""
    record = json.loads(output)
    if record["network_engine"] != engine:
        raise EffconvError(f"the engine {engine} was asked for, and {record['network_engine']} ran")
    return int(record["images"])


def _row(engine: str, seconds: Mapping[str, list[float]], images: int) -> RunsRow:
    median = statistics.median(seconds[engine])
    # Round by round, because the machine's speed changes more between rounds than within one.
    ratios = [slow / own for slow, own in zip(seconds[BASELINE], seconds[engine], strict=True)]
    return RunsRow(
        engine=engine, seconds=median, images_per_second=images / median, times_faster=statistics.median(ratios)
    )


def runs_table(record: RunsRecord) -> str:
    """A row per engine as Markdown."""
    rows = [
        [row.engine, f"{row.seconds:.1f}", f"{row.images_per_second:.1f}", f"{row.times_faster:.2f}"]
        for row in record.rows
    ]
    size = "x".join(map(str, record.image_size))
    processor = record.provenance["processor"] or record.provenance["machine"]
    note = (
        f"{record.model} at {size}, {record.images} images, {record.threads} threads of {processor}, "
        f"medians of {record.rounds} processes, times faster than {BASELINE} in the same round; "
        f"weights: {record.checkpoint}."
    )
    return f"{markdown_table(('engine', 'seconds', 'images/s', 'times faster'), rows)}\n\n{note}"
