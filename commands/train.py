"""`effconv train`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .dataset_options import chosen_dataset, dataset_options
from .help_page import Command
from .options import PATH, Number, Output, json_option, keep_others, print_json, record_option
from .refusals import choose_one, refuse_given
from .training_options import running_options, split_options

if TYPE_CHECKING:
    from ..parity.training.job import Job

PRECISIONS = "float32", "bfloat16"
# Options that are fields of `TrainingSettings` and of `Job` under their own names.
SETTINGS = (
    *("weight_decay", "clip_norm", "average_decay", "head_survival", "frozen_norms", "frozen_backbone"),
    *("local_norms", "parts", "precision", "seed"),
)
JOB = (
    *(
        "model",
        "out",
        "split",
        "hold_out",
        "backbone",
        "num_classes",
        "epochs",
        "batch",
        "rate",
        "warmup_epochs",
        "schedule",
    ),
    *("keep_every", "workers", "device", "resume", "strict"),
)


@click.command("train", cls=Command)
@dataset_options("data")
@click.option(
    "--model", required=True, help="Model to train by name (d0..d7x, lite0..lite4, ...) or a .json configuration."
)
@click.option(
    "--out", type=Output(folder=True), required=True, help="Folder to write weights, state, logs and curves to."
)
@click.option(
    "--init",
    default="none",
    show_default=True,
    help="Weights to start from: a checkpoint or converted weights; none: random ones.",
)
@click.option(
    "--backbone",
    type=PATH,
    help="Weights of an EfficientNet for the backbone: a TF1 checkpoint, a .pth file, and so on.",
)
@click.option(
    "--num-classes",
    type=click.IntRange(min=1),
    help="Number of classes; default: the dataset's, or the model's where the model detects the same categories.",
)
@split_options
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help="Number of passes over the training images.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Number of images per step, of all processes together.",
)
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of parts of a batch over which a step accumulates gradients.",
)
@click.option(
    "--rate",
    type=Number(0, min_open=True),
    default=0.08,
    show_default=True,
    help="Learning rate for a batch of 64; other batches are scaled in proportion.",
)
@click.option(
    "--warmup-epochs",
    type=Number(0),
    default=1.0,
    show_default=True,
    help="Number of epochs in which the learning rate rises to its full value.",
)
@click.option(
    "--schedule",
    type=click.Choice(["cosine", "stepwise", "polynomial", "constant"]),
    default="cosine",
    show_default=True,
    help="How the learning rate falls after warm-up.",
)
@click.option(
    "--weight-decay",
    type=Number(0),
    default=4e-5,
    show_default=True,
    help="Weight decay of the kernels, as a part of the loss.",
)
@click.option(
    "--clip-norm",
    type=Number(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Largest norm of the gradient; larger gradients are scaled down.",
)
@click.option(
    "--average-decay",
    type=Number(0, 1),
    default=0.9998,
    show_default=True,
    help="Decay of the moving averages of the weights.",
)
@click.option(
    "--survival",
    default="official",
    show_default=True,
    help="Probability that the last backbone block is kept in a step (stochastic depth), or none.",
)
@click.option(
    "--head-survival",
    type=Number(0, 1, min_open=True),
    help="Probability that a repeat of the heads is kept in a step, in a model with residual heads.",
)
@click.option(
    "--jitter",
    metavar="MIN MAX",
    type=(Number(0, min_open=True),) * 2,
    default=(0.1, 2.0),
    show_default=True,
    help="Smallest and largest factor by which images are resized at random.",
)
@click.option("--flip/--no-flip", default=True, show_default=True, help="Mirror a random half of the images, or none.")
@click.option(
    "--iou-loss",
    type=click.Choice(["iou", "giou", "diou", "ciou"]),
    help="Kind of IoU loss added to the Huber loss of boxes.",
)
@click.option("--frozen-backbone", is_flag=True, help="Leave the backbone's weights as they are.")
@click.option("--frozen-norms", is_flag=True, help="Leave batch normalisation as it is.")
@click.option(
    "--local-norms",
    is_flag=True,
    help="Compute batch normalisation over the images of each process alone, which is quicker on CPUs.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Precision of the arithmetic in training.",
)
@click.option(
    "--eval-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of epochs between evaluations.",
)
@click.option(
    "--keep-every",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of steps between saved states, besides the one after each epoch.",
)
@running_options
@record_option
@json_option
def train_command(as_json: bool, threads: int | None, record: Path | None, **chosen: Any) -> None:
    """Train a detector as the official code does.

    Training begins from nothing, or from converted weights.

    Under `torchrun --nproc-per-node N -m effconv.cli train ...` N processes share each batch.
    """
    import torch

    from ..errors import EffconvError
    from ..parity.distributed import Group
    from ..parity.training.train import training_outputs

    if chosen["eval_split"] == "none":
        refuse_given(("eval_every",), "--eval-split none")
    choose_one({("hold_out", "eval_split"): "images held out are what is evaluated on"})
    if chosen["frozen_norms"]:
        refuse_given(("local_norms",), "--frozen-norms")
    if Group().size == 1:
        refuse_given(("local_norms",), "one process, whose norms are of its own images anyway")
    keep_others(training_outputs(chosen["out"]))
    if threads:
        torch.set_num_threads(threads)
    try:
        job = _job(chosen)
    except ValueError as error:
        raise EffconvError(f"{error}; `effconv train --help` says what is expected") from error
    run_training(job, record, as_json)


def run_training(job: "Job", record: Path | None, as_json: bool) -> None:
    """Train, and say what came of it, in the first process of a group."""
    from ..allocation import keep_freed_memory
    from ..parity.rendering.record import write_record
    from ..parity.training.train import train
    from ..progress import IMAGES, progress

    keep_freed_memory()
    with progress("training", IMAGES) as report:
        found = train(job, shlex.join(["effconv", *sys.argv[1:]]), lambda text: click.echo(text, err=True), report)
    if found is None:
        return
    if record:
        write_record(found, record)
    if as_json:
        print_json(found)
    else:
        _print(found, job.out)


def _print(found: dict[str, Any], out: Path) -> None:
    """What a training came to, and where it is."""
    from ..parity.evaluation.report import figure

    losses = found["last_losses"]
    click.echo(f"{found['model']}: {found['steps']} steps, loss {losses['total']:.4f} in the last")
    for row in found["evaluations"][-1:]:
        click.echo(", ".join(f"{name} {figure(value, 3)}" for name, value in row.items() if name != "steps"))
    click.echo(f"-> {out}")


def _job(chosen: dict[str, Any]) -> Any:
    from ..effdet_torch.config import get_config
    from ..effdet_torch.training.augment import Augmentation
    from ..effdet_torch.training.loss import LossSettings
    from ..effdet_torch.training.stochastic_depth import official_survival
    from ..effdet_torch.training.trainer import TrainingSettings
    from ..errors import EffconvError
    from ..parity.training.job import Job

    def number(name: str) -> float:
        try:
            return float(chosen[name])
        except ValueError as error:
            raise EffconvError(f"--{name} {chosen[name]}: expected a number, official or none") from error

    if chosen["backbone"] and chosen["init"] != "none":
        raise EffconvError("--init and --backbone: choose one; --init has a backbone of its own")
    places = (chosen["data"], chosen["annotations"], chosen["images"])
    survival = chosen["survival"]
    settings = TrainingSettings(
        survival={"official": official_survival(get_config(chosen["model"])), "none": None}[survival]
        if survival in ("official", "none")
        else number("survival"),
        loss=LossSettings(iou_kind=chosen["iou_loss"]),
        **{name: chosen[name] for name in SETTINGS},
    )
    low, high = chosen["jitter"]
    return Job(
        data=chosen_dataset("--data FOLDER", *places, frozenset({"split"})),
        evaluation_split=None if chosen["eval_split"] == "none" else chosen["eval_split"] or "",
        init=None if chosen["init"] == "none" else Path(chosen["init"]),
        evaluate_every=chosen["eval_every"],
        augmentation=Augmentation(flip=chosen["flip"], jitter_min=low, jitter_max=high),
        settings=settings,
        **{name: chosen[name] for name in JOB},
    )
