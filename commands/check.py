"""`effconv check`: what is wrong with a dataset, before anybody trains on it."""

import sys
from pathlib import Path

import click

from .help_page import Command
from .options import PATH, Output, force_option, json_option, model_option, print_json


@click.command("check", cls=Command)
@click.argument("dataset", type=PATH, help="Folder of a dataset: COCO 2017, Roboflow, YOLO or Pascal VOC.")
@model_option(required=False)
@click.option("--split", help="Split of the dataset to check; default: val2017, or the only one.")
@click.option(
    "--report",
    type=Output(".html", ".htm", kind="REPORT"),
    help="File (.html) to write a page to: findings, charts, and some pictures with their boxes.",
)
@click.option(
    "--write-config",
    type=Output(".json", kind="CONFIG"),
    help="File (.json) to write the model's configuration to, with the proposed anchors and the dataset's categories.",
)
@force_option
@json_option
def check_command(
    dataset: Path, model: str | None, split: str | None, report: Path | None, write_config: Path | None, as_json: bool
) -> None:
    """Check a dataset for faults before training on it.

    Says what is wrong, what the dataset has, and whether a model's anchors reach its boxes.

    DATASET is a folder: COCO 2017, Roboflow, YOLO or Pascal VOC. Every picture is decoded once. Exits with status 1
    where something serious is found; notes may be harmless. Sizes and anchors are those of --model (d0).
    """
    from ..effdet_torch.config import config_to_dict, get_config
    from ..parity.datasets.check import check_dataset, fitting_config
    from ..parity.datasets.check_page import write_check_page
    from ..parity.datasets.check_text import check_lines
    from ..parity.rendering.record import write_record
    from ..parity.rendering.terminal import wrapped_text
    from ..progress import IMAGES, progress

    config = get_config(model or "d0")
    with progress("reading", IMAGES) as shown:
        checked, read = check_dataset(dataset, split, config, shown)
    if write_config:
        write_record(config_to_dict(fitting_config(checked, read, config)), write_config)
    if report:
        write_check_page(checked, read, report)
    if as_json:
        print_json({"ok": checked.ok, **checked.plain()})
    else:
        click.echo(wrapped_text(check_lines(checked)))
    sys.exit(0 if checked.ok else 1)
