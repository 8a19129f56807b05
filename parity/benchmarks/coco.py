"""Implementations of the COCO metrics beside each other: equal arrays, time, peak memory. `effconv bench coco`."""

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..provenance import provenance, version
from .contest import probe, use_one_thread
from .contest_records import Probe
from .process import MEGABYTE, PROGRAMS, Run, run_process
from .process_records import MetricsEngineRow, MetricsEnginesRecord, ProcessFigure
from .synthetic_coco import synthetic, write_annotations

DETECTIONS_PER_IMAGE = 100
ROUNDS = {"ultrafast": 5, "pycocotools": 5}
ARRAYS = ("precision", "recall", "scores")
EVALUATE = f"{PROGRAMS}.evaluate_detections"  # one evaluation, in a process of its own so that its memory is its own


def measure_metrics_engines(
    images: int, command: str, report: Callable[[int, int | None], None] = lambda done, total: None
) -> MetricsEnginesRecord:
    """A record of all on `images` made-up images: whether every array is identical, seconds, peak memory.

    They take turns, each evaluation in a fresh process. `identical` is False when any array or metric of any round
    differs in a single bit. Raises EffconvError where a process fails, and on systems without /proc.
    """
    use_one_thread()
    runs: dict[str, list[Run]] = {metrics_engine: [] for metrics_engine in ROUNDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, detections = synthetic(images, DETECTIONS_PER_IMAGE)
        write_annotations(dataset, folder)
        np.save(folder / "detections.npy", detections)
        before = probe()
        turns = [each for number in range(max(ROUNDS.values())) for each in ROUNDS if number < ROUNDS[each]]
        outputs = [folder / f"{place}.npz" for place in range(len(turns))]
        for place, (metrics_engine, output) in enumerate(zip(turns, outputs, strict=True)):
            runs[metrics_engine].append(run_process(EVALUATE, name, metrics_engine, str(output)))
            report(place + 1, len(turns))
        after = probe()
        identical = {array: all_identical([np.load(output)[array] for output in outputs]) for array in ARRAYS}
    printed = {name: [json.loads(run.output) for run in each] for name, each in runs.items()}
    every = [each["metrics"] for found in printed.values() for each in found]
    identical["metrics"] = all(metrics == every[0] for metrics in every)
    figures = {
        name: tuple(
            ProcessFigure(seconds=each["seconds"], peak_bytes=run.peak_bytes)
            for each, run in zip(printed[name], runs[name], strict=True)
        )
        for name in runs
    }
    return MetricsEnginesRecord(
        what="COCO metrics of made-up detections by each engine, fresh processes, interleaved, medians",
        command=command,
        images=images,
        boxes=len(dataset.annotations),
        crowds=sum(each["iscrowd"] for each in dataset.annotations),
        detections=len(detections),
        identical=identical,
        metrics=every[0],
        rounds=dict(ROUNDS),
        probe_gflops=Probe(before=before, after=after),
        rows=metrics_engine_rows(figures),
        figures=figures,
        metrics_engine_versions={name: version(name) for name in ("pycocotools", "ultrafast-pycocotools")},
        provenance=provenance(),
    )


def all_identical(arrays: Sequence[np.ndarray]) -> bool:
    """Whether all are the same bytes in the same shape."""
    return all(each.shape == arrays[0].shape and each.tobytes() == arrays[0].tobytes() for each in arrays)


def metrics_engine_rows(figures: Mapping[str, Sequence[ProcessFigure]]) -> tuple[MetricsEngineRow, ...]:
    """Medians of each metrics engine, and the original's over them."""
    seconds = {name: statistics.median(each.seconds for each in found) for name, found in figures.items()}
    peak = {name: statistics.median(each.peak_bytes for each in found) / MEGABYTE for name, found in figures.items()}
    return tuple(
        MetricsEngineRow(
            metrics_engine=name,
            rounds=len(found),
            seconds=seconds[name],
            times_faster=seconds["pycocotools"] / seconds[name],
            peak_megabytes=peak[name],
            times_smaller=peak["pycocotools"] / peak[name],
        )
        for name, found in figures.items()
    )
