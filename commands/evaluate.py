"""Commands that evaluate: COCO metrics of a model, and what others published."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import EffconvError
from .dataset_options import chosen_dataset, dataset_options
from .engine_options import engine_or_exported_option, is_file, say_engine
from .evaluation_options import describe_evaluation, evaluation_options
from .help_page import Command
from .options import (
    PATH,
    fetch_release,
    function_option,
    json_option,
    model_option,
    print_json,
    skip_option,
    unreadable_status,
    verify_option,
)
from .refusals import DOWNLOADED, STOPPING, choose_one, refuse_all_but, refuse_given
from .weights_path import WEIGHTS

if TYPE_CHECKING:
    from ..parity.evaluation.evaluate import Evaluation
    from ..parity.evaluation.score_record import ScoreRecord
    from ..parity.exporting.exported import Exported

# What detections that are already there are scored by; all other options are of a model's run.
SCORING = frozenset(
    {"coco", "annotations", "images", "results", "against", "split", "limit", "strict", "metrics_engine", "as_json"}
)
# What a file that runs in a model's place has settled, or has no choice of.
DECIDED = frozenset({"model", "generation", "size", "device", "precision"})
OF_WEIGHTS = frozenset({"weights", "function", "verify"})
SUPPRESSING = frozenset({"nms", "candidates", "anchors", "min_score", "max_detections"})


@click.command("eval", cls=Command)
@dataset_options("coco")
@click.option("--results", type=PATH, help="COCO results file to evaluate instead of running a model.")
@click.option(
    "--against",
    type=PATH,
    help="COCO results file to compare --results with: differences, their intervals, and where most is lost.",
)
@click.option(
    "--waterfall", is_flag=True, help="With --against: say how much of the difference the two files themselves explain."
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
@click.option("--size", metavar="HxW", help="Input height and width in pixels; default: the model's.")
@evaluation_options(engine_or_exported_option)
@skip_option
@verify_option
@json_option
def eval_command(
    coco: Path | None,
    annotations: Path | None,
    images: Path | None,
    results: Path | None,
    against: Path | None,
    waterfall: bool,
    generation: str | None,
    skip_unreadable: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Compute COCO's twelve metrics as the official code does.

    Exits with status 1 where images could not be read, unless --skip-unreadable is given. To evaluate no image at all
    is an error.

    With --results, a file of detections is evaluated; options that say how a model runs are refused. Add --against to
    compare two such files, and --waterfall to see how much of the difference is due to the files' own limits and
    mistakes of format, and how much to the model.

    With --engine FILE, an exported file or SavedModel is evaluated. It says itself which model it is; --ckpt, where
    it is given, must name the weights that the file was made from.

    Under `torchrun --nproc-per-node N -m effconv.cli eval ...`, N processes share the images.
    """
    from ..allocation import keep_freed_memory
    from ..parity.evaluation.evaluate import evaluate_detections, evaluate_model
    from ..parity.evaluation.report import print_scores
    from ..progress import IMAGES, progress

    if not against:
        refuse_given({"waterfall"}, "an evaluation without --against")
    if results:
        refuse_all_but(SCORING | {"waterfall"}, "--results")
    elif against:
        raise EffconvError("--against: name the --results to compare with them")
    choose_one(DOWNLOADED | STOPPING)
    exported = _exported(Path(chosen.pop("engine")), chosen["ckpt"]) if is_file(chosen["engine"]) else None
    dataset = chosen_dataset("--coco FOLDER", coco, annotations, images, frozenset({"split"}))
    asked, _ = describe_evaluation(dataset, {**chosen, "exported": exported})
    command = shlex.join(["effconv", *sys.argv[1:]])
    if results and against:
        refuse_given({"metrics_engine"}, "--against")
        _compare(asked, results, against, waterfall, command, as_json)
        return

    def fetch(model: str) -> Path:
        return fetch_release(model, generation, asked.verify)

    if results:
        record: ScoreRecord | None = evaluate_detections(asked, results, command)
    else:
        keep_freed_memory()
        with progress("evaluating", IMAGES) as report:
            record = evaluate_model(asked, fetch, command, report, say_engine)
    if record is None:
        return
    if as_json:
        print_json(record.plain())
    else:
        print_scores(record)
    sys.exit(unreadable_status(len(record.skipped), 0, skip_unreadable))


def _exported(path: Path, ckpt: Path | None) -> "Exported":
    """The file, once what it decides itself is known not to be asked for."""
    from ..parity.exporting.exported import open_exported

    refuse_given(DECIDED, "--engine FILE")
    if ckpt is None:
        refuse_given(OF_WEIGHTS, "--engine FILE without --ckpt")
    exported = open_exported(path)
    if not exported.raw:
        refuse_given(SUPPRESSING, f"{path}, which suppresses itself")
    return exported


def _compare(asked: "Evaluation", results: Path, against: Path, waterfall: bool, command: str, as_json: bool) -> None:
    from ..parity.ablation.table import versus_lines, versus_waterfall_lines
    from ..parity.ablation.versus import compare_detections, read_pair
    from ..parity.ablation.versus_waterfall import file_waterfall
    from ..parity.rendering.terminal import wrapped_text

    pair = read_pair(asked.coco, results, against, split=asked.split, limit=asked.limit, strict=asked.strict)
    record = compare_detections(pair, command)
    if waterfall:
        record = dataclasses.replace(record, waterfall=file_waterfall(pair))
    if as_json:
        print_json(record.plain())
    else:
        click.echo(wrapped_text([*versus_lines(record), *(versus_waterfall_lines(record) if waterfall else [])]))
