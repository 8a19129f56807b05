"""Commands that measure networks: inference, training, the way from bytes to boxes, ceilings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .engine_options import ENGINES, engine_option
from .help_page import Command
from .options import PATH, command_line, deliver, json_option, model_option, record_option, rounds_option
from .weights_path import WEIGHTS

PRECISIONS = ("float32", "tf32", "bfloat16")  # those of `parity/benchmarks/machine.py`, which imports torch
device_option = click.option(
    "--device", default="cpu", show_default=True, help="Device to measure on: cpu, cuda, cuda:1, and so on."
)
batch_option = click.option(
    "--batch",
    type=click.IntRange(min=1),
    multiple=True,
    help="Number of images in one batch; may be repeated; default: 1 and 8.",
)


def contest_precision_option(text: str) -> Callable[..., Any]:
    """`--precision` of contestants."""
    return click.option("--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True, help=text)


@click.command("ablation", cls=Command)
@click.option(
    "--coco", type=PATH, required=True, help="Folder of COCO 2017 as unpacked, with annotations/ and val2017/."
)
@model_option(required=False)
@click.option("--ckpt", type=WEIGHTS, help="Checkpoint or converted weights to measure; default: random values.")
@click.option(
    "--images", type=click.IntRange(min=1), default=5000, show_default=True, help="Number of kept images to decode."
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Number of different images among the kept ones.",
)
@rounds_option(5, "Number of turns of each contestant.")
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
    """Measure an ablation over kept outputs, beside the network.

    The ablation is one after the network, which it therefore does without.
    """
    from ..parity.benchmarks.ablation import measure_ablation
    from ..parity.benchmarks.tables import ablation_cost

    result = measure_ablation(coco, model or "d0", ckpt, images, limit, rounds, command_line())
    deliver(result.plain(), record, as_json, lambda: ablation_cost(result))


@click.command("inference", cls=Command)
@model_option(required=False)
@click.option(
    "--ckpt",
    type=WEIGHTS,
    help="Checkpoint or converted weights to measure; default: random values, which take the same time.",
)
@click.option("--size", metavar="HxW", help="Input height and width in pixels; default: the model's.")
@batch_option
@click.option(
    "--engines",
    default="eager,fast",
    show_default=True,
    help="Engines of effconv to measure, with commas between, or all.",
)
@click.option(
    "--peers",
    default="",
    help="Other projects to measure, with commas between: effdet, zylo117, pytorch-tools, tensorflow.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads to use; default: all processors.")
@device_option
@contest_precision_option("Precision of the arithmetic; bfloat16: weights and maps too, by conversion.")
@rounds_option(11, "Number of turns of each contestant.")
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
    device: str,
    precision: str,
    rounds: int,
    record: Path | None,
    as_json: bool,
) -> None:
    """Measure the network, beside other implementations.

    Time and memory of effconv's engines and of the others are with the same weights.

    What is not installed is left out, and said. "fast, symmetric padding" shows what SAME padding costs; effdet runs in
    channels-last memory too. On another device than the CPU, and in another precision than float32, engines are eager,
    fast and compile, and peers those in PyTorch.
    """
    from ..parity.benchmarks.contestants import SYMMETRIC
    from ..parity.benchmarks.inference import Contest, measure_inference
    from ..parity.benchmarks.machine import Machine
    from ..parity.benchmarks.tables import inference_table
    from .options import available_processors, parse_size

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
        machine=Machine(device, precision),
    )
    result = measure_inference(contest, command_line())
    deliver(result.plain(), record, as_json, lambda: inference_table(result))


@click.command("training", cls=Command)
@model_option(required=False)
@click.option("--size", metavar="HxW", default="512x512", show_default=True, help="Input height and width in pixels.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=4, show_default=True, help="Number of images per training step."
)
@click.option("--peers", default="", help="Other projects to measure, with commas between: effdet.")
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads to use; default: all processors.")
@device_option
@contest_precision_option("Precision of the arithmetic; bfloat16: by autocast, weights stay float32.")
@rounds_option(5, "Number of turns of each contestant.")
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
    """Measure a training step, beside other implementations.

    All have the same weights and labels.
    """
    from ..parity.benchmarks.tables import training_table
    from ..parity.benchmarks.training import OURS, TrainingContest, measure_training
    from .options import available_processors, parse_size

    names = [OURS, *(name for name in peers.split(",") if name)]
    threads = threads or available_processors()
    contest = TrainingContest(model or "d0", parse_size(size), batch, names, rounds, threads, device, precision)
    result = measure_training(contest, command_line())
    deliver(result.plain(), record, as_json, lambda: training_table(result))


@click.command("predict", cls=Command)
@click.option("--images", type=PATH, required=True, help="Folder of images to measure on.")
@model_option(required=False)
@click.option("--ckpt", type=WEIGHTS, help="Checkpoint or converted weights to measure; default: random values.")
@batch_option
@click.option(
    "--engines", default="eager,fast", show_default=True, help="Engines of effconv to measure, with commas between."
)
@click.option("--peers", default="", help="Other projects to measure, with commas between: effdet.")
@click.option("--limit", type=click.IntRange(min=1), default=8, show_default=True, help="Use only the first N images.")
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads to use; default: all processors.")
@device_option
@rounds_option(7, "Number of passes over all images per contestant.")
@record_option
@json_option
def bench_predict(
    images: Path,
    model: str | None,
    ckpt: Path | None,
    batch: tuple[int, ...],
    engines: str,
    peers: str,
    limit: int,
    threads: int | None,
    device: str,
    rounds: int,
    record: Path | None,
    as_json: bool,
) -> None:
    """Measure image to boxes, beside other implementations.

    All have the same weights. Images come in whole batches. On another device than the CPU, engines are eager, fast
    and compile.
    """
    from ..parity.benchmarks.machine import Machine
    from ..parity.benchmarks.predict import PredictContest, measure_predict
    from ..parity.benchmarks.tables import predict_table
    from .options import available_processors

    ours, theirs = ([name for name in names.split(",") if name] for names in (engines, peers))
    contest = PredictContest(
        folder=images,
        model=model or "d0",
        checkpoint=ckpt,
        engines=ours,
        peers=theirs,
        batches=batch or (1, 8),
        rounds=rounds,
        limit=limit,
        threads=threads or available_processors(),
        machine=Machine(device),
    )
    result = measure_predict(contest, command_line())
    deliver(result.plain(), record, as_json, lambda: predict_table(result))


@click.command("roofline", cls=Command)
@model_option(required=False)
@click.option("--size", metavar="HxW", help="Input height and width in pixels; default: the model's.")
@engine_option
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads to use; default: all processors.")
@rounds_option(11, "Number of forward passes to time.")
@record_option
@json_option
def bench_roofline(
    model: str | None,
    size: str | None,
    engine: str,
    threads: int | None,
    rounds: int,
    record: Path | None,
    as_json: bool,
) -> None:
    """Measure how near the network is to the machine's limits.

    Says how much work the network is, what the machine allows at best, and where the rest of the time goes.
    """
    from ..parity.benchmarks.roofline import measure_roofline
    from ..parity.benchmarks.tables import roofline_text
    from .options import available_processors, parse_size

    shape = parse_size(size) if size else None
    result = measure_roofline(model or "d0", shape, engine, threads or available_processors(), rounds, command_line())
    deliver(result.plain(), record, as_json, lambda: roofline_text(result))


COMMANDS = (
    bench_ablation,
    bench_inference,
    bench_training,
    bench_predict,
    bench_roofline,
)
