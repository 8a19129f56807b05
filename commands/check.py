"""`effconv check`: what is wrong with a dataset, before anybody trains on it."""

import sys
from pathlib import Path

import click

from .options import PATH, json_option, model_option, print_json


@click.command("check")
@click.argument("dataset", type=PATH)
@model_option(required=False)
@click.option("--split", help="Which annotations; default: val2017's, or the only ones there are.")
@json_option
def check_command(dataset: Path, model: str | None, split: str | None, as_json: bool) -> None:
    """Check a dataset before training on it: what is wrong, what it has, and whether a model's anchors reach its boxes.

    DATASET is a folder as COCO 2017 unpacks. Every picture is decoded once. Exits with status 1 where something serious
    is found; notes may be as they should be. Sizes and anchors are those of --model, d0 without.
    """
    from ..effdet_torch.config import get_config
    from ..parity.datasets.check import check_dataset
    from ..parity.datasets.check_text import check_lines
    from ..progress import IMAGES, progress

    config = get_config(model or "d0")
    with progress("reading", IMAGES) as report:
        checked, _ = check_dataset(dataset, split, config, report)
    if as_json:
        print_json({"ok": checked.ok, **checked.plain()})
    else:
        click.echo("\n".join(check_lines(checked)))
    sys.exit(0 if checked.ok else 1)
