"""The command that writes TensorFlow's weights from PyTorch's."""

from functools import partial
from pathlib import Path

import click

from .help_page import Command
from .options import (
    container_option,
    force_option,
    json_option,
    keep_others,
    model_option,
    nonfinite_option,
    num_classes_option,
    print_json,
    require_classes,
    verify_option,
)
from .weights_path import WEIGHTS


@click.command("torch2tf", cls=Command)
@click.argument("weights", type=WEIGHTS, help="PyTorch weights to convert (.safetensors, .pth).")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    required=True,
    help="Files to write: a prefix such as d0/model, a folder (for model in it), or a .h5 file of Keras weights.",
)
@container_option("Write a TF1 checkpoint (default), Keras weights (.h5), or a TF2 object checkpoint.")
@click.option(
    "--ema", type=WEIGHTS, help="Weights to store as moving averages in a TF1 checkpoint; default: WEIGHTS again."
)
@model_option(required=False)
@num_classes_option
@force_option
@nonfinite_option
@verify_option
@json_option
def torch2tf(
    weights: Path,
    output: str,
    container: str | None,
    ema: Path | None,
    model: str | None,
    num_classes: int | None,
    allow_nonfinite: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Convert PyTorch weights to a checkpoint for TensorFlow.

    The official code reads it.
    """
    from ..convert.conversion import write_checkpoint
    from ..convert.output import require_place
    from ..errors import EffconvError
    from ..loading import read_state
    from ..saving import TENSORFLOW, TF1, container_of, outputs_of, place_of, write_state

    container = container_of(Path(output), TENSORFLOW, container)
    if ema and container != TF1:
        raise EffconvError(f"--ema: {container} holds one set of weights; leave it out, or write a TF1 checkpoint")
    place = place_of(output, TENSORFLOW, container)
    outputs = outputs_of(place, TENSORFLOW, container)
    for path in outputs:
        require_place(path)
    keep_others(outputs)
    read = partial(read_state, verify=verify, allow_nonfinite=allow_nonfinite)
    state, config = read(weights, model)
    require_classes(weights, num_classes, config.num_classes)
    if ema:
        written = write_checkpoint(state, read(ema, config)[0], config, place, str(weights))
    else:
        written = write_state(state, config, place, TENSORFLOW, {"file": weights.name}, container)
    if as_json:
        files = [str(path) for path in written]
        print_json({"model": config.name, "container": container, "variables": len(state), "files": files})
        return
    averages = ", each with its moving average" if ema else ", each also as its own moving average"
    averages = averages if container == TF1 else ""
    click.echo(f"{weights} ({config.name}): {len(state)} variables{averages}")
    click.echo("-> " + ", ".join(str(path) for path in written))
