"""The command that downloads a released checkpoint."""

import click

from .help_page import Command
from .options import fetch_release, json_option, model_option, print_json, verify_option


@click.command("download", cls=Command)
@model_option(required=True)
@click.option(
    "--generation", help="Released checkpoint to download: coco2 (default), coco, ... (`effconv models` lists all)."
)
@verify_option
@json_option
def download_command(model: str, generation: str | None, verify: bool, as_json: bool) -> None:
    """Download a released checkpoint, verify it, print its path."""
    path = fetch_release(model, generation, verify)
    if as_json:
        print_json({"path": str(path)})
    else:
        click.echo(str(path))
