"""The command that records every layer of a reference."""

from pathlib import Path
from typing import Any

import click

from ..errors import EffconvError
from .options import PATH, Output, fetch_release, force_option, json_option, model_option, print_json, verify_option
from .parity_modes import COMPUTED
from .refusals import DOWNLOADED, choose_one, refuse_given
from .weights_path import WEIGHTS


@click.command("trace")
@model_option(required=False)
@click.option(
    "--ckpt", type=WEIGHTS, help="TensorFlow checkpoint; default: the released one, or what ships with effconv."
)
@click.option("--generation", help="Which released checkpoint to download: coco2 (default), coco, ...")
@click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    help="Which weights to take; default: the moving averages where there are any.",
)
@click.option(
    "--reference",
    metavar="tf|torch|GOLDEN.npz|GRAPH.pb|SAVED_MODEL",
    help="What to record: the official computation in TensorFlow (default), effconv's own run, or one of these files.",
)
@click.option("--image", type=PATH, help="A photograph to run on; default: noise.")
@click.option("--noise", "noise_seed", type=click.IntRange(min=0, max=2**32 - 1), help="Seed of the noise; default: 0.")
@click.option("--size", metavar="HxW", help="Image height and width in pixels; default: the model's.")
@click.option("--float64", "with_float64", is_flag=True, help="Keep the float64 run too: three times the size.")
@click.option("-o", "--output", type=Output(kind="TRACE"), required=True, help="The trace to write, e.g. d0.npz.")
@force_option
@verify_option
@json_option
def trace_command(
    size: str | None, generation: str | None, with_float64: bool, output: Path, as_json: bool, **chosen: Any
) -> None:
    """Record every layer of the reference, so that a machine without TensorFlow can compare with it."""
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
