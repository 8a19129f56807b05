"""The command that lists the models."""

import click

from .help_page import Command
from .options import json_option, print_json


@click.command("models", cls=Command)
@json_option
def models(as_json: bool) -> None:
    """List the official models and their released checkpoints."""
    from ..convert.inspection import list_models

    rows = list_models()
    if as_json:
        print_json(rows)
        return
    click.echo(f"{'model':24} {'input':>9} {'parameters':>11}  generations")
    for row in rows:
        size = "{}x{}".format(*row["image_size"])
        click.echo(f"{row['model']:24} {size:>9} {row['parameters']:>11,}  {', '.join(row['generations'])}")
