"""The command that recognises a released checkpoint."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .help_page import Command
from .options import json_option, model_option, print_json
from .refusals import UNCHECKED, refuse_checks, refuse_given
from .weights_path import WEIGHTS

if TYPE_CHECKING:
    from ..convert.fingerprints import Identification


@click.command("identify", cls=Command)
@click.argument("ckpt", type=WEIGHTS, help="TensorFlow checkpoint or PyTorch weights to recognise.")
@click.option(
    "--verify/--no-verify",
    default=True,
    help="Check the data where the checkpoint has it (default), or only the .index.",
)
@model_option(required=False)
@json_option
def identify_command(ckpt: Path, model: str | None, verify: bool, as_json: bool) -> None:
    """Tell which released checkpoint a file is, by its checksums.

    Exits with status 1 when it is none.

    PyTorch weights are recognised too, whatever port's names they have: checksums are of values.
    """
    found, checked = _identify(ckpt, model, verify)
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


def _identify(path: Path, model: str | None, verify: bool) -> "tuple[Identification, bool]":
    """What is known of the file, and whether its data was read to know it."""
    from ..convert.fingerprints import identify, identify_state
    from ..convert.sources import open_checkpoint
    from ..loading import CHECKPOINT_ENDINGS, read_state

    if path.suffix in CHECKPOINT_ENDINGS:
        return identify_state(*read_state(path, model, verify=verify, allow_nonfinite=True), str(path)), True
    refuse_given({"model"}, "a TensorFlow checkpoint, whose tensors are recognised by their own names")
    checkpoint = open_checkpoint(path)
    if not checkpoint.has_checksums:
        refuse_checks(UNCHECKED)
    if not checkpoint.has_data:
        refuse_checks("an .index without its data")
    checked = verify and checkpoint.has_data
    if checked:
        checkpoint.verify()
    return identify(checkpoint), checked
