"""The command that makes a dataset of drawn shapes."""

from pathlib import Path

import click

from .help_page import Command
from .options import Output, force_option, json_option, keep_others, print_json


@click.command("shapes", cls=Command)
@click.option(
    "-o", "--output", type=Output(folder=True), required=True, help="Folder to write the dataset to, in COCO's layout."
)
@click.option("--images", type=click.IntRange(min=1), default=500, show_default=True, help="Number of images to draw.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random drawing.")
@click.option("--split", default="val2017", show_default=True, help="Name of the split to write.")
@click.option(
    "--size", metavar="HxW", default="160x160", show_default=True, help="Height and width of the images in pixels."
)
@force_option
@json_option
def shapes_command(output: Path, images: int, seed: int, split: str, size: str, as_json: bool) -> None:
    """Draw a small dataset of shapes in COCO's format.

    Shapes of eight categories are turned, overlap, and lie on noisy backgrounds.
    """
    from ..parity.datasets.shapes import shapes_outputs, write_shapes
    from ..progress import IMAGES, progress
    from .options import parse_size

    keep_others(shapes_outputs(output, split, images))
    with progress("drawing", IMAGES) as report:
        result = write_shapes(output, split, images, seed, parse_size(size), report)
    if as_json:
        print_json(result)
    else:
        click.echo(f"{result['images']} images, {result['objects']} objects -> {result['annotations']}")
