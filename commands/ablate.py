"""`effconv ablate`: what each detail of a port costs."""

import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .engine_options import choosing_engine_option, say_engine
from .help_page import Command
from .options import PATH, Number, Output, force_option, json_option, model_option, print_json
from .refusals import given_options, refuse, refuse_given
from .weights_path import WEIGHTS

if TYPE_CHECKING:
    from ..parity.ablation.record import AblationRecord, AblationRow, GapRecord
    from ..parity.ablation.registry import Ablation
    from ..parity.ablation.study import Study


class AblateCommand(Command):
    """Has a flag for every ablation, which are known when the command runs: listing them imports torch."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Take `--NAME` of ablations out of the arguments before the others are parsed."""
        own = {option for parameter in self.params for option in (*parameter.opts, *parameter.secondary_opts)}
        flags = [word for word in args if word.startswith("--") and word.split("=")[0] not in own and word != "--help"]
        context.meta["ablations"] = [flag.removeprefix("--") for flag in flags]
        return super().parse_args(context, [word for word in args if word not in flags])


@click.command("ablate", cls=AblateCommand, options_metavar="[OPTIONS] [--NAME]...")
@click.option("--list", "listing", is_flag=True, help="List every NAME, what it changes, and at which stage.")
@click.option("--all", "everything", is_flag=True, help="Make every known change, each by itself.")
@click.option("--combine", is_flag=True, help="Make the named changes together too, besides each by itself.")
@click.option("--waterfall", is_flag=True, help="Split the gap between none and all of the named changes over them.")
@model_option(required=False)
@click.option("--ckpt", type=WEIGHTS, help="Checkpoint or converted weights; default: the embedded detector.")
@click.option(
    "--coco", type=PATH, help="Dataset folder to evaluate on; default: the embedded detector's held-out pictures."
)
@click.option(
    "--min-score",
    type=Number(0, 1),
    multiple=True,
    help="Ablate the score threshold: drop detections whose score is not above this.",
)
@click.option(
    "--anchors", multiple=True, help="Ablate the anchors: take official or legacy ones, or a JSON file of anchors."
)
@click.option("--split", help="Split of the dataset to evaluate; default: val2017, or the only one.")
@click.option("--limit", type=click.IntRange(min=2), help="Use only the first N images.")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Number of images in one batch of the network.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap's resampling."
)
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of bootstrap resamples for the intervals.",
)
@click.option("--cache", type=Output(folder=True), help="Folder to keep inputs and raw outputs in for the next run.")
@click.option(
    "--device", default="cpu", show_default=True, help="Device that runs the network: cpu, cuda, cuda:1, and so on."
)
@choosing_engine_option
@click.option(
    "--report", type=Output(".html", ".htm", kind="REPORT"), help="File (.html) to write a page with a chart to."
)
@click.option(
    "--record",
    type=Output(kind="RECORD"),
    help="File to write the record to as JSON; finished rows are kept beside the record.",
)
@force_option
@click.option("--resume", is_flag=True, help="Continue a run that was cut off; needs --record.")
@click.option("--strict", is_flag=True, help="Refuse a dataset that has faults.")
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
    """Measure what each detail of a port costs in AP.

    One change at a time is made beside one baseline, and has a 95 % interval.

    `effconv ablate --no-same-maxpool` answers for one; `--list` names all. Intervals are of a paired bootstrap over
    images. A change is better or worse when its interval excludes 0 and a second test agrees: where its detections are
    swapped with the baseline's at random, image by image, hardly any difference is as large. Fewer than 6 images cannot
    show that.
    """
    from ..allocation import keep_freed_memory
    from ..parity.ablation.finished_rows import FinishedRows
    from ..parity.ablation.page import write_ablation_page
    from ..parity.ablation.record import AblationRecord, GapRecord
    from ..parity.ablation.registry import ABLATIONS
    from ..parity.ablation.waterfall import waterfall_lines
    from ..parity.rendering.record import write_record
    from ..parity.rendering.terminal import wrapped, wrapped_text

    _require_used(context.meta["ablations"], listing, everything, combine, waterfall, chosen)
    if listing:
        for each in ABLATIONS.values():
            click.echo(wrapped(f"--{each.name:24} {each.stage:8} {each.summary}", 36))
        return
    named = _named(context.meta["ablations"], chosen, everything)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as temporary:
        study = _study(chosen, Path(temporary))
        record = _split(study, named) if waterfall else _run(study, named, everything, combine, as_json)
    if record is None:
        return  # one of several processes, of which the first reports
    if isinstance(record, GapRecord) and not as_json:
        click.echo(wrapped_text(waterfall_lines(record.gap)))
    # First: with the record nothing is lost, whatever becomes of the page.
    if chosen["record"]:
        write_record(record.plain(), chosen["record"])
        FinishedRows(chosen["record"], {}).remove()
    if isinstance(record, AblationRecord) and chosen["report"]:
        write_ablation_page(record, chosen["report"])
    if as_json:
        print_json(record.plain())


def _require_used(
    names: Sequence[str],
    listing: bool,
    everything: bool,
    combine: bool,
    waterfall: bool,
    chosen: Mapping[str, Any],
) -> None:
    """Refuse options without effect: beside the list, a waterfall, the embedded detector, or fewer than two changes."""
    if listing:
        given = [shown for name, shown in given_options(click.get_current_context()).items() if name != "listing"]
        refuse([*(f"--{name}" for name in names), *given], "--list")
    if waterfall:  # of which no interval is made, and no page
        refuse_given(("everything", "combine", "seed", "resamples", "resume", "report"), "--waterfall")
    if combine and len(names) + len(chosen["min_score"]) + len(chosen["anchors"]) < 2:
        refuse_given(("combine",), "fewer than two named changes")
    if chosen["ckpt"] is None and chosen["coco"] is None:
        refuse_given(("model",), "the embedded detector, which is taken without --ckpt and --coco")


def _named(names: Sequence[str], chosen: dict[str, Any], everything: bool) -> "list[Ablation]":
    """The ablations asked for, in the order of the command line but those with a value last."""
    from ..errors import EffconvError
    from ..parity.ablation.options import anchors_of, min_score
    from ..parity.ablation.registry import ABLATIONS

    unknown = [name for name in names if name not in ABLATIONS]
    if unknown:
        raise EffconvError(f"--{unknown[0]}: no such option or ablation; `effconv ablate --list` names all")
    scores, anchors = chosen.pop("min_score"), chosen.pop("anchors")
    named = [ABLATIONS[name] for name in names]
    named += [min_score(score) for score in scores] + [anchors_of(choice) for choice in anchors]
    if not named and not everything:
        raise EffconvError(
            "name what to ablate, such as --no-same-maxpool, or --all; `effconv ablate --list` names all"
        )
    return named


def _study(chosen: dict[str, Any], folder: Path) -> "Study":
    from ..errors import EffconvError
    from ..parity.ablation.study import Study
    from ..parity.embedded import CONFIG, FOLDER, embedded_config, write_held_out
    from ..progress import IMAGES, progress

    checkpoint, model, coco = chosen["ckpt"], chosen["model"], chosen["coco"]
    if (checkpoint is None) != (coco is None):
        raise EffconvError("--ckpt and --coco: give both, or neither for the embedded detector")
    if chosen["resume"] and chosen["record"] is None:
        raise EffconvError("--resume: name the --record of the run to go on with")
    if checkpoint is None:
        embedded_config()
        checkpoint, model, coco = FOLDER, str(CONFIG), folder / "pictures"
        with progress("drawing", IMAGES) as report:
            write_held_out(coco, report)
    names = ("split", "limit", "batch", "seed", "resamples", "cache", "device", "engine", "resume", "strict")
    given = {name: chosen[name] for name in names}
    return Study(checkpoint=checkpoint, model=model, coco=coco, rows=chosen["record"], **given)


def _split(study: "Study", named: "list[Ablation]") -> "GapRecord | None":
    from ..parity.ablation.run import split_gap

    return split_gap(study, named, _command(), say_engine)


def _run(
    study: "Study", named: "list[Ablation]", everything: bool, combine: bool, quiet: bool
) -> "AblationRecord | None":
    from ..errors import EffconvError
    from ..parity.ablation.registry import ABLATIONS, fitting
    from ..parity.ablation.run import run_study
    from ..parity.ablation.study import official_setup
    from ..parity.ablation.table import ablation_line
    from ..progress import ROWS, progress

    setup = official_setup(study)
    fits = fitting(setup)
    misfits = [each.name for each in named if each is ABLATIONS.get(each.name) and each not in fits]
    if misfits:
        raise EffconvError(f"--{misfits[0]}: {setup.model.config.name} has nothing that it changes")
    asked = [*fits, *(each for each in named if each not in fits)] if everything else named
    rows = [[each] for each in asked] + ([named] if combine else [])

    def tell(row: "AblationRow") -> None:
        if not quiet:
            click.echo(ablation_line(row))

    with progress("ablating", ROWS) as report:
        return run_study(study, rows, _command(), tell, report, say_engine)


def _command() -> str:
    return shlex.join(["effconv", *sys.argv[1:]])
