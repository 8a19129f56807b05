"""The command that writes a TensorFlow checkpoint from PyTorch weights."""

from pathlib import Path

import click

from .options import PATH, json_option, model_option, nonfinite_option, print_json, verify_option


@click.command("torch2tf")
@click.argument("weights", type=PATH)
@click.option("-o", "--output", "prefix", type=PATH, required=True, help="Prefix of the checkpoint, e.g. d0/model.")
@click.option("--ema", type=PATH, help="Weights to store as moving averages; default: the same.")
@model_option(required=False)
@nonfinite_option
@verify_option
@json_option
def torch2tf(
    weights: Path,
    prefix: Path,
    ema: Path | None,
    model: str | None,
    allow_nonfinite: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Convert PyTorch weights (.safetensors, .pth) to an official-format TensorFlow checkpoint."""
    from ..convert.conversion import write_checkpoint
    from ..loading import read_state

    options = {"verify": verify, "allow_nonfinite": allow_nonfinite}
    state, config = read_state(weights, model, **options)
    averages = read_state(ema, config, **options)[0] if ema else state
    written = write_checkpoint(state, averages, config, prefix, str(weights))
    if as_json:
        print_json({"model": config.name, "variables": len(state), "files": [str(path) for path in written]})
        return
    click.echo(f"{weights} ({config.name}): {len(state)} variables, each with its moving average")
    click.echo("-> " + ", ".join(str(path) for path in written))
