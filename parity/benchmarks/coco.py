"""The engines of the COCO metrics beside each other: equal arrays, time, peak memory. `effconv bench coco`."""

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..provenance import provenance, version
from .contest import probe, use_one_thread
from .process import MEGABYTE, PROGRAMS, Run, run_process
from .synthetic_coco import synthetic, write_annotations

DETECTIONS_PER_IMAGE = 100
ROUNDS = {"ultrafast": 5, "pycocotools": 5}
ARRAYS = ("precision", "recall", "scores")
EVALUATE = f"{PROGRAMS}.evaluate_detections"  # one evaluation, in a process of its own so that its memory is its own


def measure_engines(
    images: int, command: str, report: Callable[[int, int | None], None] = lambda done, total: None
) -> dict[str, Any]:
    """A record of both engines on `images` made-up images: whether every array is identical, seconds, peak memory.

    Engines take turns, each evaluation in a fresh process. `identical` is False when any array or metric of any round
    differs in a single bit. Raises EffconvError where a process fails, and on systems without /proc.
    """
    use_one_thread()
    runs: dict[str, list[Run]] = {engine: [] for engine in ROUNDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, detections = synthetic(images, DETECTIONS_PER_IMAGE)
        write_annotations(dataset, folder)
        np.save(folder / "detections.npy", detections)
        before = probe()
        turns = [engine for number in range(max(ROUNDS.values())) for engine in ROUNDS if number < ROUNDS[engine]]
        outputs = [folder / f"{place}.npz" for place in range(len(turns))]
        for place, (engine, output) in enumerate(zip(turns, outputs, strict=True)):
            runs[engine].append(run_process(EVALUATE, name, engine, str(output)))
            report(place + 1, len(turns))
        after = probe()
        identical = {array: all_identical([np.load(output)[array] for output in outputs]) for array in ARRAYS}
    printed = {engine: [json.loads(run.output) for run in each] for engine, each in runs.items()}
    every = [each["metrics"] for found in printed.values() for each in found]
    identical["metrics"] = all(metrics == every[0] for metrics in every)
    return {
        "what": "COCO metrics of made-up detections by each engine, fresh processes, interleaved, medians",
        "command": command,
        "images": images,
        "boxes": len(dataset.annotations),
        "crowds": sum(each["iscrowd"] for each in dataset.annotations),
        "detections": len(detections),
        "identical": identical,
        "metrics": every[0],
        "rounds": dict(ROUNDS),
        "probe_gflops": {"before": before, "after": after},
        "rows": engine_rows(printed, runs),
        "figures": {
            engine: [
                {"seconds": each["seconds"], "peak_bytes": run.peak_bytes}
                for each, run in zip(printed[engine], runs[engine], strict=True)
            ]
            for engine in runs
        },
        "engine_versions": {name: version(name) for name in ("pycocotools", "ultrafast-pycocotools")},
        "provenance": provenance(),
    }


def all_identical(arrays: Sequence[np.ndarray]) -> bool:
    """Whether all are the same bytes in the same shape."""
    return all(each.shape == arrays[0].shape and each.tobytes() == arrays[0].tobytes() for each in arrays)


def engine_rows(printed: Mapping[str, Sequence[Mapping[str, Any]]], runs: Mapping[str, Sequence[Run]]) -> list[Any]:
    """Medians of each engine, and the original's over them."""
    seconds = {engine: statistics.median(each["seconds"] for each in found) for engine, found in printed.items()}
    peak = {engine: statistics.median(run.peak_bytes for run in each) / MEGABYTE for engine, each in runs.items()}
    return [
        {
            "engine": engine,
            "rounds": len(runs[engine]),
            "seconds": seconds[engine],
            "times_faster": seconds["pycocotools"] / seconds[engine],
            "peak_megabytes": peak[engine],
            "times_smaller": peak["pycocotools"] / peak[engine],
        }
        for engine in runs
    ]
