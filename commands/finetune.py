"""`effconv finetune`: `train` with what suits a few hundred pictures of one's own."""

from pathlib import Path
from typing import Any

import click

from .dataset_options import chosen_dataset
from .help_page import Command
from .options import (
    PATH,
    Number,
    Output,
    fetch_release,
    json_option,
    keep_others,
    model_option,
    record_option,
)
from .refusals import choose_one, refuse_given
from .train import run_training
from .training_options import running_options, split_options


@click.command("finetune", cls=Command)
@click.argument("data", type=PATH, required=False, help="Folder of a dataset: COCO 2017, Roboflow, YOLO or Pascal VOC.")
@click.option("--annotations", type=PATH, help="COCO annotation file, wherever it is, in place of DATA.")
@click.option("--images", type=PATH, help="Folder of the images that --annotations describes.")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="MODEL|FILE",
    help="Weights to start from: d0..d7x, lite0..lite4, ... (downloaded), a checkpoint, or converted weights.",
)
@model_option(required=False)
@click.option(
    "-o", "--out", type=Output(folder=True), required=True, help="Folder to write weights, state, logs and curves to."
)
@split_options
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Number of passes over the training images.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Number of images per training step."
)
@click.option(
    "--rate",
    type=Number(0, min_open=True),
    default=0.16,
    show_default=True,
    help="Learning rate for a batch of 64; other batches are scaled in proportion.",
)
@click.option(
    "--eval-every",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of epochs between evaluations.",
)
@click.option("--train-norms", is_flag=True, help="Train batch normalisation too, which is left as it is by default.")
@running_options
@record_option
@json_option
def finetune_command(
    data: Path | None,
    annotations: Path | None,
    images: Path | None,
    source: str,
    model: str | None,
    train_norms: bool,
    threads: int | None,
    record: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Fine-tune trained weights on your pictures and categories.

    COCO, Roboflow, YOLO and Pascal VOC folders are read as they are, and category names are kept with the weights. The
    learning rate falls to zero in the few steps there are, moving averages span a tenth of them, and batch norms stay
    as they are. `effconv train` has every setting.
    """
    import torch

    from ..parity.training.finetuning import finetuning
    from ..parity.training.train import training_outputs

    if chosen["eval_split"] == "none":
        refuse_given(("eval_every",), "--eval-split none")
    choose_one({("hold_out", "eval_split"): "images held out are what is evaluated on"})
    evaluation = chosen.pop("eval_split")
    place = chosen_dataset("DATA", data, annotations, images, frozenset({"split"}))
    keep_others(training_outputs(chosen["out"]))
    if threads:
        torch.set_num_threads(threads)
    start, model = _start(source, model)
    job = finetuning(
        data=place,
        model=model,
        init=start,
        evaluation_split=None if evaluation == "none" else evaluation or "",
        evaluate_every=chosen.pop("eval_every"),
        frozen_norms=not train_norms,
        **chosen,
    )
    run_training(job, record, as_json)


def _start(source: str, model: str | None) -> tuple[Path, str | None]:
    """(file of the weights to go on from, their model's name or file; None: they know)."""
    from ..effdet_torch.config import ConfigError, get_config
    from ..loading import CHECKPOINT_ENDINGS

    path = Path(source)
    if not path.exists():
        try:
            name = get_config(source).name
        except ConfigError as error:
            raise ConfigError(f"--from {source}: no such file, and {error}") from error
        refuse_given(("model",), f"--from {source}, a model's own name")
        return fetch_release(name, None, True), name
    if model is None and path.suffix not in CHECKPOINT_ENDINGS:
        raise ConfigError(f"--from {source}: name the model it is of", parameters={"model": "d0"})
    return path, model
