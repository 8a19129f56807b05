"""Options that `train` and `finetune` share."""

from collections.abc import Callable
from typing import Any

import click

from .options import Number


def split_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which images are trained on, and which are evaluated on."""
    for option in (
        click.option(
            "--hold-out",
            type=Number(0, 1, min_open=True, max_open=True),
            help="Share of the training images to keep apart and evaluate on, where there is no split for that.",
        ),
        click.option("--eval-split", help="Images to evaluate on, or none; default: val2017, valid or val."),
        click.option("--split", help="Images to train on; default: train2017 or train."),
    ):
        command = option(command)
    return command


def running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How the training runs: none of them is part of the recipe, but for the seed."""
    for option in (
        click.option("--strict", is_flag=True, help="Refuse a dataset with faults; stop at an unreadable image."),
        click.option("--resume", is_flag=True, help="Continue the training that was begun in --out."),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Seed of everything random in training.",
        ),
        click.option("--device", default="cpu", show_default=True, help="Device to train on, cpu or cuda."),
        click.option(
            "--threads", type=click.IntRange(min=1), help="Number of threads of each process; default: PyTorch's."
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=0),
            default=2,
            show_default=True,
            help="Number of processes that prepare images.",
        ),
    ):
        command = option(command)
    return command
