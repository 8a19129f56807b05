"""The command that recognises a released checkpoint."""

import sys
from pathlib import Path

import click

from .options import PATH, json_option, print_json


@click.command("identify")
@click.argument("ckpt", type=PATH)
@click.option("--verify/--no-verify", default=True, help="Check the data, where it is there (default), or the .index.")
@json_option
def identify_command(ckpt: Path, verify: bool, as_json: bool) -> None:
    """Say which released checkpoint a file is, by its tensors' checksums; exit with status 1 when it is none."""
    from ..convert.fingerprints import identify
    from ..convert.sources import open_checkpoint

    checkpoint = open_checkpoint(ckpt)
    checked = verify and checkpoint.has_data
    if checked:
        checkpoint.verify()
    found = identify(checkpoint)
    if as_json:
        agreements = [row._asdict() for row in found.agreements]
        label = found.released and found.released.label
        print_json({"released_checkpoint": label, "data_checked": checked, "agreements": agreements})
    else:
        click.echo(f"{ckpt}: {found.released.label if found.released else 'none of the known released checkpoints'}")
        if not checked:
            click.echo("  by the index alone: no data was checked")
        for row in found.agreements if not found.released else found.agreements[:1]:
            click.echo(f"  {row.equal} of {row.total} tensors agree with {row.label}")
    sys.exit(0 if found.released else 1)
