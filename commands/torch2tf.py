"""The command that writes a TensorFlow checkpoint from PyTorch weights."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from .options import (
    PATH,
    force_option,
    json_option,
    keep_others,
    model_option,
    nonfinite_option,
    print_json,
    verify_option,
)


class Prefix(click.Path):
    """The prefix of a checkpoint to write; a folder stands for the prefix `model` in it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Raises EffconvError where nothing can or may be written."""
        from ..convert.conversion import checkpoint_paths, checkpoint_prefix
        from ..convert.output import require_place
        from ..convert.output_kinds import CHECKPOINT

        prefix = checkpoint_prefix(str(value))
        paths = checkpoint_paths(prefix)
        for path in paths:
            require_place(path)
        keep_others(dict.fromkeys(paths, CHECKPOINT))
        return prefix


@click.command("torch2tf")
@click.argument("weights", type=PATH)
@click.option(
    "-o", "--output", "prefix", type=Prefix(), required=True, help="Prefix, e.g. d0/model; a folder: model in it."
)
@click.option("--ema", type=PATH, help="Weights to store as moving averages; default: the same.")
@model_option(required=False)
@force_option
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

    read = partial(read_state, verify=verify, allow_nonfinite=allow_nonfinite)
    state, config = read(weights, model)
    averages = read(ema, config)[0] if ema else state
    written = write_checkpoint(state, averages, config, prefix, str(weights))
    if as_json:
        print_json({"model": config.name, "variables": len(state), "files": [str(path) for path in written]})
        return
    click.echo(f"{weights} ({config.name}): {len(state)} variables, each with its moving average")
    click.echo("-> " + ", ".join(str(path) for path in written))
