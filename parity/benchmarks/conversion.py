"""Speed and memory of effconv beside others, interleaved in one run: ratios of medians of fresh processes."""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...effdet_torch.config import get_config
from ...errors import EffconvError
from ..provenance import provenance, version
from .process import MEGABYTE, PROGRAMS, Run, make_checkpoint, run_process
from .process_records import ConversionFigure, ConversionRecord, ConversionRow

# What the ratio of a row must be, where something is promised of it.
BARS = {
    ("efficientdet-d0", "whole command"): ">= 5",
    ("efficientdet-d0", "peak memory"): "<= 0.25",
    ("efficientdet-d0", "read all, verified"): ">= 2",
    ("efficientdet-d7x", "peak memory / weights kept"): "< 2.2",
}


def measure_conversion(model: str, rounds: int) -> ConversionRecord:
    """Time and peak memory of `effconv tf2torch` beside TensorFlow + torch.save, and of reading all tensors.

    Contestants take turns, each in a fresh process, `rounds` times. Returns a record with every single figure. Raises
    EffconvError when TensorFlow is not installed.
    """
    config = get_config(model)
    if not version("tensorflow"):
        raise EffconvError("the other side of this benchmark is TensorFlow: pip install tensorflow")
    with tempfile.TemporaryDirectory() as folder:
        prefix = f"{folder}/model"
        make_checkpoint(model, prefix)
        reference = f"{PROGRAMS}.tensorflow_reader"
        weights = f"{folder}/ours.safetensors"
        contestants = {
            "effconv": ["effconv.cli", "tf2torch", "--model", model, "--ckpt", prefix, "-o", weights],
            "tensorflow": [reference, "convert", model, prefix, f"{folder}/theirs.pth"],
            "effconv_read": [f"{PROGRAMS}.read_all", prefix],
            "tensorflow_read": [reference, "read", prefix],
        }
        runs: dict[str, list[Run]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, words in contestants.items():
                runs[name].append(run_process(*words))
        weight_bytes = Path(weights).stat().st_size
        data_bytes = Path(f"{prefix}.data-00000-of-00001").stat().st_size
    figures = {name: tuple(_figure(run) for run in each) for name, each in runs.items()}
    return ConversionRecord(
        what="tf2torch beside tf.train.load_checkpoint + torch.save, fresh processes, interleaved, medians",
        command=f"effconv bench convert --model {model} --rounds {rounds}",
        model=config.name,
        checkpoint="official variables, random values, raw and moving averages",
        data_bytes=data_bytes,
        weight_bytes=weight_bytes,
        rounds=rounds,
        provenance=provenance(),
        rows=_conversion_rows(figures, weight_bytes, config.name),
        figures=figures,
    )


def _figure(run: Run) -> ConversionFigure:
    try:
        printed = tuple(float(word) for word in run.output.split())
    except ValueError:  # the words of one that converts
        printed = ()
    return ConversionFigure(seconds=run.seconds, peak_bytes=run.peak_bytes, printed_seconds=printed)


def _conversion_rows(
    figures: Mapping[str, Sequence[ConversionFigure]], weight_bytes: int, model: str
) -> tuple[ConversionRow, ...]:
    seconds = {name: statistics.median(run.seconds for run in each) for name, each in figures.items()}
    peak = {name: statistics.median(run.peak_bytes for run in each) / MEGABYTE for name, each in figures.items()}
    views, copies = (statistics.median(run.printed_seconds[i] for run in figures["effconv_read"]) for i in (0, 1))
    read = statistics.median(run.printed_seconds[0] for run in figures["tensorflow_read"])

    def row(what: str, unit: str, ours: float, theirs: float, ratio: float) -> ConversionRow:
        bar = BARS.get((model, what), "")
        return ConversionRow(what=what, unit=unit, effconv=ours, tensorflow=theirs, ratio=ratio, bar=bar)

    ours, theirs = "effconv", "tensorflow"
    kept = weight_bytes / MEGABYTE
    return (
        row("whole command", "s", seconds[ours], seconds[theirs], seconds[theirs] / seconds[ours]),
        row("peak memory", "MB", peak[ours], peak[theirs], peak[ours] / peak[theirs]),
        row("read all, verified", "s", views, read, read / views),
        row("read all, verified, and copy", "s", copies, read, read / copies),
        row("peak memory / weights kept", "x", peak[ours] / kept, peak[theirs] / kept, peak[ours] / kept),
    )
