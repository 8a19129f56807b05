"""Options of commands that run a model on a dataset, and the `Evaluation` they describe."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import PATH, Number, Output, available_processors, force_option, precision_option

if TYPE_CHECKING:
    from ..parity.datasets.layouts import CocoFile
    from ..parity.evaluation.evaluate import Evaluation

# How detections are made. What is not given is the official evaluation's, or, beside a record, the record's.
PIPELINE = (
    click.option("--nms", type=click.Choice(["soft", "hard"]), help="Kind of non-maximum suppression; default: soft."),
    click.option(
        "--candidates",
        type=click.Choice(["topk", "argmax"]),
        help="Candidates for suppression: the 5000 best (anchor, class) pairs (default), or each anchor's best class.",
    ),
    click.option(
        "--anchors",
        type=click.Choice(["official", "legacy"]),
        help="Anchors of the official code as it is (default), or from before 2020-09-10 (legacy).",
    ),
    click.option(
        "--min-score", type=Number(0, 1), help="Drop detections whose score is not above this; default: keep all."
    ),
    click.option(
        "--max-detections", type=click.IntRange(min=1), help="Largest number of detections per image; default: 100."
    ),
    click.option(
        "--image-decoder",
        type=click.Choice(["tensorflow", "pillow"]),
        help="Decoder of image files; default: TensorFlow's.",
    ),
    click.option(
        "--resize",
        type=click.Choice(["tensorflow", "antialiased"]),
        help="Method of resizing images; default: TensorFlow's.",
    ),
)
RUN = (
    click.option("--split", help="Split of the dataset to evaluate; default: val2017, valid or val, or the only one."),
    click.option("--limit", type=click.IntRange(min=1), help="Use only the first N images."),
    click.option(
        "--batch",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Number of images in one batch of the network.",
    ),
    click.option("--workers", type=click.IntRange(min=0), help="Number of processes that read images."),
    click.option(
        "--device", default="cpu", show_default=True, help="Device that runs the network: cpu, cuda, cuda:1, and so on."
    ),
    click.option(
        "--detections",
        type=Output(kind="DETECTIONS"),
        help="File to write the detections to, in COCO's results format.",
    ),
    force_option,
    click.option("--resume", is_flag=True, help="Continue a run that was cut off; needs --detections."),
    click.option("--strict", is_flag=True, help="Refuse a dataset with faults; stop at an unreadable image."),
    click.option("--category-map", type=PATH, help="JSON file that pairs category ids, {the model's: the dataset's}."),
)
NETWORK = (
    precision_option,
    click.option(
        "--metrics-engine",
        type=click.Choice(["ultrafast", "pycocotools"]),
        help="Library that computes the metrics; all give the same figures.",
    ),
)
NAMES = {"min_score": "score_threshold"}  # options whose setting has another name
EVALUATION_NAMES = (
    *("nms", "candidates", "anchors", "min_score", "max_detections", "image_decoder", "resize"),
    *("split", "limit", "batch", "workers", "device", "detections", "resume", "strict", "category_map"),
    *("engine", "precision", "metrics_engine"),
)
SETTINGS = ("nms", "candidates", "anchors", "min_score", "max_detections", "image_decoder", "resize", "size")


def evaluation_options(engine: Callable[..., Any]) -> Callable[..., Any]:
    """All of them, in this order in --help; `engine` is the command's own option of that name."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed((*PIPELINE, *RUN, engine, *NETWORK)):
            command = option(command)
        return command

    return add


def default_workers() -> int:
    """How many processes or threads read images beside the network, which needs a processor too."""
    return min(4, max(1, available_processors() - 1))


def describe_evaluation(coco: "Path | CocoFile", chosen: dict[str, Any]) -> "tuple[Evaluation, dict[str, Any]]":
    """The evaluation that options describe, and which settings were given. Raises EffconvError for a wrong size."""
    from ..parity.evaluation.evaluate import Evaluation
    from ..parity.evaluation.pipeline import Settings
    from .options import parse_size

    given = {NAMES.get(name, name): chosen.pop(name) for name in SETTINGS}
    stated = {name: value for name, value in given.items() if value is not None}
    if "size" in stated:
        stated["size"] = parse_size(stated["size"])
    workers = chosen.pop("workers")
    if workers is None:
        workers = default_workers()
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if "ckpt" in chosen:
        chosen["checkpoint"] = chosen.pop("ckpt")
    return Evaluation(coco=coco, settings=Settings(**stated), workers=workers, **chosen), stated
