"""The command that lists what is published about the models."""

import click

from .help_page import Command
from .options import json_option, print_json


@click.command("results", cls=Command)
@click.option("--model", help="Show only figures of this model.")
@click.option("--system", help="Show only figures of systems whose name contains this text, such as effdet.")
@click.option("--split", help="Show only figures measured on this split, such as val2017.")
@click.option("--speed", is_flag=True, help="Show published speeds instead of metrics.")
@json_option
def results_command(model: str | None, system: str | None, split: str | None, speed: bool, as_json: bool) -> None:
    """List published figures and how each was measured."""
    from ..effdet_torch.config import ConfigError, get_config
    from ..errors import EffconvError
    from ..parity.evaluation.published_rows import find_published
    from ..parity.evaluation.report import metric_lines, speed_lines
    from ..parity.rendering.terminal import table_width

    try:
        name = get_config(model).name if model else None
    except ConfigError:
        name = model  # records have models of their own, such as efficientdet_q1
    found = find_published(name, system, split, speed)
    if not found:
        raise EffconvError("no published result is like that; `effconv results` lists all")
    if as_json:
        print_json([row._asdict() for row in found])
    else:
        click.echo("\n".join((speed_lines if speed else metric_lines)(found, table_width())))
