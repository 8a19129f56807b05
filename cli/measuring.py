"""Commands that measure speed and memory."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .options import PATH, json_option, model_option, print_json


@click.group("bench")
def bench() -> None:
    """Measure speed and memory, ours beside others', in one interleaved run."""


def record_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--record`, which every benchmark has."""
    return click.option("--record", type=PATH, help="Write the record (JSON) here too.")(command)


def rounds_option(default: int, text: str) -> Callable[..., Any]:
    """`--rounds`, how often each contestant runs."""
    return click.option("--rounds", type=click.IntRange(min=1), default=default, show_default=True, help=text)


def _deliver(result: dict[str, Any], record: Path | None, as_json: bool, text: Callable[[], str]) -> None:
    from ..parity.report import write_record

    if record:
        write_record(result, record)
    if as_json:
        print_json(result)
    else:
        click.echo(text())


def _command() -> str:
    """The command line, without where its record goes."""
    words = sys.argv[1:]
    if "--record" in words:
        place = words.index("--record")
        words = words[:place] + words[place + 2 :]
    return shlex.join(["effconv", *words])


@bench.command("convert")
@model_option(required=False)
@rounds_option(5, "Fresh processes per contestant.")
@record_option
@json_option
def bench_convert(model: str | None, rounds: int, record: Path | None, as_json: bool) -> None:
    """Time and memory of `tf2torch` beside TensorFlow's own reader with torch.save."""
    from ..parity.benchmark import measure_conversion
    from ..parity.tables import conversion_table

    result = measure_conversion(model or "d0", rounds)
    _deliver(result, record, as_json, lambda: conversion_table(result))


@bench.command("parity")
@model_option(required=False)
@record_option
@json_option
def bench_parity(model: str | None, record: Path | None, as_json: bool) -> None:
    """Peak memory and time of `parity --layerwise`."""
    from ..parity.comparison_benchmark import comparison_cost, measure_comparison

    result = measure_comparison(model or "d0")
    _deliver(result, record, as_json, lambda: comparison_cost(result))


@bench.command("coco")
@click.option("--images", type=click.IntRange(min=1), default=5000, show_default=True, help="Made-up images.")
@record_option
@json_option
def bench_coco(images: int, record: Path | None, as_json: bool) -> None:
    """Time and memory of the COCO metrics' engines; exit with status 1 when any of their arrays differ."""
    from ..parity.coco_benchmark import measure_engines
    from ..parity.tables import engine_table
    from ..progress import EVALUATIONS, progress

    with progress("evaluating", EVALUATIONS) as report:
        result = measure_engines(images, f"effconv bench coco --images {images}", report)
    _deliver(result, record, as_json, lambda: engine_table(result))
    sys.exit(0 if all(result["identical"].values()) else 1)


@bench.command("input")
@click.option("--images", type=PATH, required=True, help="Folder of images.")
@model_option(required=False)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
@rounds_option(7, "Passes over all images per contestant.")
@record_option
@json_option
def bench_input(
    images: Path, model: str | None, limit: int | None, rounds: int, record: Path | None, as_json: bool
) -> None:
    """Time from encoded images to the network's input, beside TensorFlow and Pillow, on one thread."""
    from ..parity.input_benchmark import measure_input
    from ..parity.tables import contest_text

    result = measure_input(images, model or "d0", rounds, limit, _command())
    _deliver(result, record, as_json, lambda: contest_text(result, "image"))


@bench.command("nms")
@click.option("--candidates", type=click.IntRange(min=1), default=5000, show_default=True, help="Boxes.")
@click.option("--classes", type=click.IntRange(min=1), default=90, show_default=True, help="Of the boxes.")
@rounds_option(51, "Runs per contestant.")
@record_option
@json_option
def bench_nms(candidates: int, classes: int, rounds: int, record: Path | None, as_json: bool) -> None:
    """Time of soft-NMS beside TensorFlow's and beside hard NMS, on one thread."""
    from ..parity.nms_benchmark import measure_nms
    from ..parity.tables import contest_text

    result = measure_nms(candidates, classes, rounds, _command())
    _deliver(result, record, as_json, lambda: contest_text(result, "image"))


@bench.command("eval")
@click.option("--coco", type=PATH, required=True, help="Folder as COCO 2017 unpacks: annotations/ and val2017/.")
@model_option(required=False)
@click.option("--ckpt", type=PATH, help="TensorFlow checkpoint; default: random values.")
@click.option("--limit", type=click.IntRange(min=1), default=5, show_default=True, help="Only the first N images.")
@rounds_option(7, "Passes over the images per contestant.")
@record_option
@json_option
def bench_eval(
    coco: Path, model: str | None, ckpt: Path | None, limit: int, rounds: int, record: Path | None, as_json: bool
) -> None:
    """Time from encoded image to detections beside TensorFlow's whole pipeline, on one thread, one image at a time."""
    from ..parity.evaluation_benchmark import measure_evaluation
    from ..parity.tables import contest_text

    result = measure_evaluation(coco, model or "d0", ckpt, rounds, limit, _command())
    _deliver(result, record, as_json, lambda: contest_text(result, "image"))


@bench.command("ablation")
@click.option("--coco", type=PATH, required=True, help="Folder as COCO 2017 unpacks: annotations/ and val2017/.")
@model_option(required=False)
@click.option("--ckpt", type=PATH, help="Checkpoint; default: random values.")
@click.option("--images", type=click.IntRange(min=1), default=5000, show_default=True, help="Kept images to decode.")
@click.option("--limit", type=click.IntRange(min=1), default=16, show_default=True, help="Different images of these.")
@rounds_option(5, "Turns of each.")
@record_option
@json_option
def bench_ablation(
    coco: Path,
    model: str | None,
    ckpt: Path | None,
    images: int,
    limit: int,
    rounds: int,
    record: Path | None,
    as_json: bool,
) -> None:
    """Time of an ablation after the network, over kept outputs, beside the network it does without."""
    from ..parity.ablation_benchmark import ablation_cost, measure_ablation

    result = measure_ablation(coco, model or "d0", ckpt, images, limit, rounds, _command())
    _deliver(result, record, as_json, lambda: ablation_cost(result))


@bench.command("inference")
@model_option(required=False)
@click.option("--ckpt", type=PATH, help="Checkpoint; default: random values, of which the time does not depend.")
@click.option("--size", metavar="HxW", help="Input height and width in pixels; default: the model's.")
@click.option("--batch", type=click.IntRange(min=1), multiple=True, help="Images at once; default: 1 and 8.")
@click.option("--engines", default="eager,fast", show_default=True, help="Ours, by commas; all: every one.")
@click.option("--peers", default="", help="Theirs, by commas: effdet, tensorflow.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: all processors.")
@rounds_option(11, "Turns of each contestant.")
@record_option
@json_option
def bench_inference(
    model: str | None,
    ckpt: Path | None,
    size: str | None,
    batch: tuple[int, ...],
    engines: str,
    peers: str,
    threads: int | None,
    rounds: int,
    record: Path | None,
    as_json: bool,
) -> None:
    """Time and memory of the network, our engines beside other implementations with the same weights.

    What is not installed is left out, and said. "fast, symmetric padding" shows what SAME padding costs; effdet runs in
    channels-last memory too.
    """
    from ..parity.inference_benchmark import SYMMETRIC, Contest, measure_inference
    from ..parity.layerwise import parse_size
    from ..parity.pipeline import available_processors
    from ..parity.tables import inference_table
    from .options import ENGINES

    ours = ENGINES if engines == "all" else [name for name in engines.split(",") if name]
    theirs = [name for name in peers.split(",") if name]
    names = [*ours, *([SYMMETRIC] if "fast" in ours else []), *theirs]
    names += [f"{name}, channels_last" for name in theirs if name != "tensorflow"]
    contest = Contest(
        model=model or "d0",
        checkpoint=ckpt,
        size=parse_size(size) if size else None,
        batches=batch or (1, 8),
        names=names,
        rounds=rounds,
        threads=threads or available_processors(),
    )
    result = measure_inference(contest, _command())
    _deliver(result, record, as_json, lambda: inference_table(result))


@bench.command("training")
@model_option(required=False)
@click.option("--size", metavar="HxW", default="512x512", show_default=True, help="Input height and width in pixels.")
@click.option("--batch", type=click.IntRange(min=1), default=4, show_default=True, help="Images of a step.")
@click.option("--peers", default="", help="Theirs, by commas: effdet.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: all processors.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@rounds_option(5, "Turns of each contestant.")
@record_option
@json_option
def bench_training(
    model: str | None,
    size: str,
    batch: int,
    peers: str,
    threads: int | None,
    device: str,
    precision: str,
    rounds: int,
    record: Path | None,
    as_json: bool,
) -> None:
    """Time and memory of a training step beside other implementations, with the same weights and labels."""
    from ..parity.layerwise import parse_size
    from ..parity.pipeline import available_processors
    from ..parity.training_benchmark import OURS, TrainingContest, measure_training, training_table

    names = [OURS, *(name for name in peers.split(",") if name)]
    threads = threads or available_processors()
    contest = TrainingContest(model or "d0", parse_size(size), batch, names, rounds, threads, device, precision)
    result = measure_training(contest, _command())
    _deliver(result, record, as_json, lambda: training_table(result))
