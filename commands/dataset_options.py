"""A dataset as options name it: a folder of a known layout, or a COCO file and its images wherever they are."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import EffconvError
from .options import PATH
from .refusals import refuse_given

if TYPE_CHECKING:
    from ..parity.datasets.layouts import CocoFile

FOLDER = "Folder of a dataset: COCO 2017, Roboflow, YOLO or Pascal VOC."


def dataset_options(name: str) -> Callable[..., Any]:
    """`--NAME`, `--annotations` and `--images`."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--images", type=PATH, help="Folder of the images that --annotations describes."),
            click.option(
                "--annotations", type=PATH, help="COCO annotation file, wherever it is, in place of a dataset folder."
            ),
            click.option(f"--{name}", type=PATH, help=FOLDER),
        ):
            command = option(command)
        return command

    return add


def chosen_dataset(
    shown: str, folder: Path | None, annotations: Path | None, images: Path | None, unused: frozenset[str]
) -> "Path | CocoFile":
    """The dataset that is named: a folder, by the parameter `shown`, or a file, by the other two.

    Raises EffconvError unless it is one of them, and for `unused` options beside a file, which is one split.
    """
    from ..parity.datasets.layouts import CocoFile

    if folder is not None:
        refuse_given({"annotations", "images"}, shown)
        return folder
    if annotations is None or images is None:
        raise EffconvError(f"name the dataset: {shown}, or --annotations FILE and --images DIR")
    refuse_given(unused, "--annotations")
    return CocoFile(annotations, images)
