"""The command that uses a model: pictures with what is in them."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .engine_options import choosing_engine_option, say_engine
from .help_page import Command
from .options import (
    Number,
    Output,
    fetch_release,
    force_option,
    function_option,
    json_option,
    keep_others,
    model_option,
    print_json,
    skip_option,
    unreadable_status,
    verify_option,
)
from .refusals import DOWNLOADED, STOPPING, choose_one
from .weights_path import WEIGHTS

if TYPE_CHECKING:
    from ..effdet_torch.config import Config
    from ..parity.prediction.overlap import Predicted


@click.command("predict", cls=Command)
@click.argument(
    "images",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    help="Image file, folder, or glob such as 'photos/**/*.jpg'; may be repeated.",
)
@click.option(
    "-o", "--output", type=Output(folder=True), required=True, help="Folder for the pictures and the JSON files."
)
@model_option(required=False)
@click.option("--ckpt", type=WEIGHTS, help="Checkpoint or converted weights; default: the released one.")
@click.option(
    "--generation", help="Released checkpoint to download: coco2 (default), coco, ... (`effconv models` lists all)."
)
@click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    help="Weights to take: moving averages (ema) or raw values; default: ema where there are any.",
)
@function_option("CKPT")
@click.option(
    "--min-score",
    type=Number(0, 1),
    default=0.3,
    show_default=True,
    help="Lowest score of objects that are drawn and written.",
)
@click.option(
    "--hide-below",
    type=Number(0, 1),
    help="Lowest score of objects that are drawn; default: --min-score. Those below it are written all the same.",
)
@click.option("--size", metavar="HxW", help="Input height and width in pixels; default: the model's.")
@click.option(
    "--nms",
    type=click.Choice(["soft", "hard"]),
    default="soft",
    show_default=True,
    help="Kind of non-maximum suppression.",
)
@click.option(
    "--device", default="cpu", show_default=True, help="Device that runs the network: cpu, cuda, cuda:1, and so on."
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Threads that read and draw images while the network runs; on two processors they gain nothing.",
)
@choosing_engine_option
@force_option
@click.option("--strict", is_flag=True, help="Stop at the first image that cannot be read.")
@skip_option
@verify_option
@json_option
def predict_command(
    images: tuple[str, ...],
    generation: str | None,
    ckpt: Path | None,
    size: str | None,
    nms: str,
    workers: int,
    skip_unreadable: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Find objects in images, and draw boxes and names.

    Writes pictures with boxes, names and scores, and COCO JSON.

    IMAGE is a file, a folder or a glob such as 'photos/**/*.jpg'. Written into the output folder are a picture for
    each image, detections.json (COCO results) and images.json (which image and category each id is). Exits with
    status 2 where a file named here cannot be read, and 1 where one of a folder or glob cannot; all others are done.
    """
    from ..allocation import keep_freed_memory
    from ..parity.datasets.examination import turned_lines
    from ..parity.evaluation.pipeline import Settings
    from ..parity.evaluation.report import not_finite_lines
    from ..parity.prediction.predict import Asked, predict_images, prediction_outputs
    from ..progress import IMAGES, progress
    from .options import parse_size

    choose_one(DOWNLOADED | STOPPING)
    settings = Settings(nms=nms, size=parse_size(size) if size else None)
    asked = Asked(images=images, checkpoint=ckpt, settings=settings, workers=workers, **chosen)

    keep_others(prediction_outputs(asked))

    def fetch(model: str) -> Path:
        return fetch_release(model, generation, asked.verify)

    keep_freed_memory()
    with progress("predicting", IMAGES) as report:
        record = predict_images(asked, fetch, report, (lambda *_: None) if as_json else _tell, say_engine)
    for line in turned_lines([each["file_name"] for each in record["images"] if each["exif_orientation"] != 1]):
        click.echo(f"effconv: warning: {line}; drawings of them are upright", err=True)
    if as_json:
        print_json(record)
        sys.exit(unreadable_status(len(record["skipped"]), len(record["named"]), skip_unreadable))
    for reason in record["skipped"].values():
        click.echo(f"skipped: {reason}")
    objects = sum(image["objects"] for image in record["images"])
    click.echo(f"-> {asked.output}: {len(record['images'])} pictures, {objects} objects in detections.json")
    for line in not_finite_lines([image["not_finite"] for image in record["images"]]):
        click.echo(line)
    if record["skipped"]:
        click.echo(f"{len(record['skipped'])} of {len(record['images']) + len(record['skipped'])} images skipped")
    sys.exit(unreadable_status(len(record["skipped"]), len(record["named"]), skip_unreadable))


def _tell(predicted: "Predicted", config: "Config") -> None:
    from ..effdet_torch.categories import category_name

    counts = Counter(predicted.prediction.categories.tolist())
    objects = ", ".join(f"{count} {category_name(number, config)}" for number, count in counts.items())
    click.echo(f"{predicted.image}: {objects or 'nothing'} -> {predicted.drawing}")
