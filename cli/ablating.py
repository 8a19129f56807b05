"""`effconv ablate`: what each detail of a port costs."""

import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .options import PATH, json_option, model_option, print_json


class AblateCommand(click.Command):
    """Has a flag for every ablation, which are known when the command runs: listing them imports torch."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Take `--NAME` of ablations out of the arguments before the others are parsed."""
        own = {option for parameter in self.params for option in (*parameter.opts, *parameter.secondary_opts)}
        flags = [word for word in args if word.startswith("--") and word.split("=")[0] not in own and word != "--help"]
        context.meta["ablations"] = [flag.removeprefix("--") for flag in flags]
        return super().parse_args(context, [word for word in args if word not in flags])


@click.command("ablate", cls=AblateCommand, options_metavar="[OPTIONS] [--NAME]...")
@click.option("--list", "listing", is_flag=True, help="List every NAME: what it changes, and at which stage.")
@click.option("--all", "everything", is_flag=True, help="Every one, each by itself.")
@click.option("--combine", is_flag=True, help="The named ones together, besides each by itself.")
@click.option("--waterfall", is_flag=True, help="Split the gap between none and all of the named ones over them.")
@model_option(required=False)
@click.option("--ckpt", type=PATH, help="Checkpoint or converted weights; default: the embedded detector.")
@click.option("--coco", type=PATH, help="Dataset folder; default: the embedded detector's held-out pictures.")
@click.option("--split", help="Default: val2017, or the only one there is.")
@click.option("--limit", type=click.IntRange(min=2), help="Only the first N images.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Images at a time.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the resampling.")
@click.option("--resamples", type=click.IntRange(min=1), default=1000, show_default=True, help="Of the intervals.")
@click.option("--cache", type=PATH, help="Keep inputs and raw outputs in this folder for the next run.")
@click.option("--report", type=PATH, help="Write a page (.html) with a chart here.")
@click.option("--record", type=PATH, help="Write the record (JSON) here too.")
@json_option
@click.pass_context
def ablate_command(
    context: click.Context,
    /,
    listing: bool,
    everything: bool,
    combine: bool,
    waterfall: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """What each detail of a port costs in AP: one change at a time beside one baseline, with 95 % intervals.

    `effconv ablate --no-same-maxpool` answers for one; `--list` names all. Intervals are of a paired bootstrap over
    images: a change is better or worse when its interval excludes 0.
    """
    from ..errors import EffconvError
    from ..parity.ablation_list import ABLATIONS
    from ..parity.ablation_page import write_ablation_page
    from ..parity.ablation_table import ablation_line
    from ..parity.waterfall import waterfall_lines

    if listing:
        for each in ABLATIONS.values():
            click.echo(f"--{each.name:24} {each.stage:8} {each.summary}")
        return
    names = context.meta["ablations"]
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown:
        raise EffconvError(f"--{unknown[0]}: no such option or ablation; `effconv ablate --list` names all")
    if not names and not everything:
        raise EffconvError(
            "name what to ablate, such as --no-same-maxpool, or --all; `effconv ablate --list` names all"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if waterfall:
            record = _split(chosen, names, folder)
        else:
            record = _run(chosen, names, everything, combine, folder, not as_json and ablation_line)
    if waterfall:
        if not as_json:
            click.echo("\n".join(waterfall_lines(record)))
    else:
        if chosen["report"]:
            write_ablation_page(record, chosen["report"])
    if chosen["record"]:
        from ..parity.report import write_record

        write_record(record, chosen["record"])
    if as_json:
        print_json(record)


def _study(chosen: dict[str, Any], folder: Path) -> Any:
    from ..errors import EffconvError
    from ..parity.ablation_run import Study
    from ..parity.embedded import CONFIG, FOLDER, embedded_config, write_held_out
    from ..progress import IMAGES, progress

    checkpoint, model, coco = chosen["ckpt"], chosen["model"], chosen["coco"]
    if (checkpoint is None) != (coco is None):
        raise EffconvError("--ckpt and --coco: give both, or neither for the embedded detector")
    if checkpoint is None:
        embedded_config()
        checkpoint, model, coco = FOLDER, str(CONFIG), folder / "pictures"
        with progress("drawing", IMAGES) as report:
            write_held_out(coco, report)
    names = ("split", "limit", "batch", "seed", "resamples", "cache")
    return Study(checkpoint=checkpoint, model=model, coco=coco, **{name: chosen[name] for name in names})


def _split(chosen: dict[str, Any], names: list[str], folder: Path) -> dict[str, Any]:
    from ..parity.ablation_list import ABLATIONS
    from ..parity.ablation_run import split_gap

    return split_gap(
        _study(chosen, folder), [ABLATIONS[name] for name in names], shlex.join(["effconv", *sys.argv[1:]])
    )


def _run(
    chosen: dict[str, Any], names: list[str], everything: bool, combine: bool, folder: Path, line: Any
) -> dict[str, Any]:
    from ..errors import EffconvError
    from ..loading import load
    from ..parity.ablation_list import ABLATIONS, Ablation, fitting
    from ..parity.ablation_run import run_study
    from ..parity.pipeline import Settings, build
    from ..parity.pipeline_mistakes import Setup

    study = _study(chosen, folder)
    network = load(study.checkpoint, model=study.model)
    fits = fitting(Setup(model=network, pipeline=build(network.config, Settings())))
    rows: list[list[Ablation]] = [[each] for each in fits] if everything else [[ABLATIONS[name]] for name in names]
    misfits = [each.name for (each,) in rows if each not in fits]
    if misfits:
        raise EffconvError(f"--{misfits[0]}: {network.config.name} has nothing that it changes")
    if combine:
        rows.append([ABLATIONS[name] for name in names])
    tell: Callable[[Any], None] = lambda row: click.echo(line(row)) if line else None  # noqa: E731
    command = shlex.join(["effconv", *sys.argv[1:]])
    return run_study(study, rows, command, tell)
