"""The command that records every layer of a reference."""

from pathlib import Path
from typing import Any

import click

from ..errors import EffconvError
from .help_page import Command
from .options import (
    PATH,
    Output,
    fetch_release,
    force_option,
    image_size_option,
    json_option,
    model_option,
    noise_option,
    print_json,
    verify_option,
)
from .parity_modes import COMPUTED
from .refusals import DOWNLOADED, choose_one, refuse_given
from .weights_path import WEIGHTS


@click.command("trace", cls=Command)
@model_option(required=False)
@click.option(
    "--ckpt", type=WEIGHTS, help="TensorFlow checkpoint; default: the released one, or what ships with effconv."
)
@click.option(
    "--generation", help="Released checkpoint to download: coco2 (default), coco, ... (`effconv models` lists all)."
)
@click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    help="Weights to take: moving averages (ema) or raw values; default: ema where there are any.",
)
@click.option(
    "--reference",
    metavar="tf|torch|GOLDEN.npz|GRAPH.pb|SAVED_MODEL",
    help="Computation to record: the official one in TensorFlow (default), effconv's own run, or one of these files.",
)
@click.option("--image", type=PATH, help="Photograph to run the network on; default: noise.")
@noise_option
@image_size_option
@click.option(
    "--float64",
    "with_float64",
    is_flag=True,
    help="Record the float64 run too, which makes the file three times as large.",
)
@click.option("-o", "--output", type=Output(kind="TRACE"), required=True, help="Trace to write, such as d0.npz.")
@force_option
@verify_option
@json_option
def trace_command(
    size: str | None, generation: str | None, with_float64: bool, output: Path, as_json: bool, **chosen: Any
) -> None:
    """Record every layer, to compare without TensorFlow later.

    A machine without TensorFlow can then compare with the official computation.
    """
    from ..parity.comparison.subject import Choice, choose_subject, choose_trace
    from ..parity.traces.recording import record
    from ..progress import LAYERS, progress
    from .options import parse_size

    choose_one(DOWNLOADED)
    reference = chosen["reference"]
    if reference not in COMPUTED:  # of a checkpoint, a file needs the number of classes alone
        refuse_given(("weights",), f"--reference {reference}")
    elif generation and chosen["model"] is None:
        raise EffconvError("--generation: name the model whose released checkpoint it is (--model d0)")
    choice = Choice(checkpoint=chosen.pop("ckpt"), size=parse_size(size) if size else None, **chosen)
    subject = choose_subject(choice, lambda model: fetch_release(model, generation, choice.verify))
    trace = choose_trace(choice, subject)
    with progress("recording", LAYERS) as report:
        layers = record(trace, output, with_float64=with_float64, report=report)
    size_in_bytes = output.stat().st_size
    if as_json:
        print_json({"output": str(output), "layers": layers, "bytes": size_in_bytes, "source": trace.source})
        return
    click.echo(f"{trace.source['label']}: {layers} layers, {'with' if with_float64 else 'without'} float64")
    click.echo(f"-> {output} ({size_in_bytes / 1e6:.1f} MB)")
