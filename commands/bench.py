"""Commands that measure speed and memory."""

import sys
from pathlib import Path

import click

from .engine_options import engine_option
from .help_page import Command
from .options import PATH, command_line, deliver, json_option, model_option, record_option, rounds_option
from .weights_path import WEIGHTS


@click.group("bench")
def bench() -> None:
    """Measure speed and memory beside other projects'.

    All contestants take turns in one run.
    """


@bench.command("convert", cls=Command)
@model_option(required=False)
@rounds_option(5, "Number of fresh processes per contestant.")
@record_option
@json_option
def bench_convert(model: str | None, rounds: int, record: Path | None, as_json: bool) -> None:
    """Measure `tf2torch` beside TensorFlow's reader and torch.save."""
    from ..parity.benchmarks.conversion import measure_conversion
    from ..parity.benchmarks.tables import conversion_table

    result = measure_conversion(model or "d0", rounds)
    deliver(result.plain(), record, as_json, lambda: conversion_table(result))


@bench.command("parity", cls=Command)
@model_option(required=False)
@record_option
@json_option
def bench_parity(model: str | None, record: Path | None, as_json: bool) -> None:
    """Measure the peak memory and time of `parity --layerwise`."""
    from ..parity.benchmarks.layerwise import measure_comparison
    from ..parity.benchmarks.tables import comparison_cost

    result = measure_comparison(model or "d0")
    deliver(result.plain(), record, as_json, lambda: comparison_cost(result))


@bench.command("coco", cls=Command)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=5000,
    show_default=True,
    help="Number of made-up images to evaluate.",
)
@record_option
@json_option
def bench_coco(images: int, record: Path | None, as_json: bool) -> None:
    """Measure the libraries that compute COCO's metrics.

    Exits with status 1 when any of their arrays differ.
    """
    from ..parity.benchmarks.coco import measure_metrics_engines
    from ..parity.benchmarks.tables import metrics_engine_table
    from ..progress import EVALUATIONS, progress

    with progress("evaluating", EVALUATIONS) as report:
        result = measure_metrics_engines(images, f"effconv bench coco --images {images}", report)
    deliver(result.plain(), record, as_json, lambda: metrics_engine_table(result))
    sys.exit(0 if all(result.identical.values()) else 1)


@bench.command("input", cls=Command)
@click.option("--images", type=PATH, required=True, help="Folder of images to measure on.")
@model_option(required=False)
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first N images.")
@rounds_option(7, "Number of passes over all images per contestant.")
@record_option
@json_option
def bench_input(
    images: Path, model: str | None, limit: int | None, rounds: int, record: Path | None, as_json: bool
) -> None:
    """Measure reading images, beside TensorFlow and Pillow.

    The time is from encoded images to the network's input, on one thread.
    """
    from ..parity.benchmarks.input import measure_input
    from ..parity.benchmarks.tables import contest_text

    result = measure_input(images, model or "d0", rounds, limit, command_line())
    deliver(result.plain(), record, as_json, lambda: contest_text(result, "image"))


@bench.command("nms", cls=Command)
@click.option(
    "--candidates",
    type=click.IntRange(min=1),
    default=5000,
    show_default=True,
    help="Number of boxes before suppression.",
)
@click.option(
    "--classes",
    type=click.IntRange(min=1),
    default=90,
    show_default=True,
    help="Number of classes that the boxes have.",
)
@rounds_option(51, "Number of runs per contestant.")
@record_option
@json_option
def bench_nms(candidates: int, classes: int, rounds: int, record: Path | None, as_json: bool) -> None:
    """Measure soft-NMS beside TensorFlow's and beside hard NMS.

    Everything runs on one thread.
    """
    from ..parity.benchmarks.nms import measure_nms
    from ..parity.benchmarks.tables import contest_text

    result = measure_nms(candidates, classes, rounds, command_line())
    deliver(result.plain(), record, as_json, lambda: contest_text(result, "image"))


@bench.command("eval", cls=Command)
@click.option(
    "--coco", type=PATH, required=True, help="Folder of COCO 2017 as unpacked, with annotations/ and val2017/."
)
@model_option(required=False)
@click.option("--ckpt", type=WEIGHTS, help="TensorFlow checkpoint to measure; default: random values.")
@click.option("--limit", type=click.IntRange(min=1), default=5, show_default=True, help="Use only the first N images.")
@engine_option
@rounds_option(7, "Number of passes over all images per contestant.")
@record_option
@json_option
def bench_eval(
    coco: Path,
    model: str | None,
    ckpt: Path | None,
    limit: int,
    engine: str,
    rounds: int,
    record: Path | None,
    as_json: bool,
) -> None:
    """Measure detecting beside TensorFlow's whole pipeline.

    The time is from encoded image to detections, on one thread, one image at a time.
    """
    from ..parity.benchmarks.evaluation import measure_evaluation
    from ..parity.benchmarks.tables import contest_text

    result = measure_evaluation(coco, model or "d0", ckpt, engine, rounds, limit, command_line())
    deliver(result.plain(), record, as_json, lambda: contest_text(result, "image"))
