"""Commands that prove: layer by layer, and with the files that ship with effconv."""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .engine_options import engine_or_file_option
from .evaluation_options import EVALUATION_NAMES, describe_evaluation, evaluation_options
from .help_page import Command
from .options import (
    PATH,
    Output,
    command_line,
    function_option,
    image_size_option,
    json_option,
    model_option,
    noise_option,
    print_json,
    verify_option,
)
from .parity_exported import parity_of_file
from .parity_modes import Mode, require_used
from .parity_subject import choice_of, releases
from .weights_path import WEIGHTS

if TYPE_CHECKING:
    from ..parity.comparison.records import ComparisonRecord


@click.command("parity", cls=Command)
@click.option("--layerwise", is_flag=True, help="Print a line per layer; default: one per part of the network.")
@model_option(required=False)
@click.option(
    "--ckpt", type=WEIGHTS, help="TensorFlow checkpoint; default: the released one, or what ships with effconv."
)
@click.option(
    "--generation", help="Released checkpoint to download: coco2 (default), coco, ... (`effconv models` lists all)."
)
@click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    help="Weights to take: moving averages (ema) or raw values; default: ema where there are any.",
)
@click.option(
    "--backbone",
    type=PATH,
    help="Checkpoint of an EfficientNet to compare, as the backbone of a detector whose other weights are random.",
)
@click.option(
    "--candidate", type=WEIGHTS, help="PyTorch weights to prove (.safetensors, .pth); default: CKPT converted."
)
@function_option("CANDIDATE")
@click.option(
    "--reference",
    metavar="tf|torch|TRACE.npz|GRAPH.pb|SAVED_MODEL",
    help="Computation to compare with: the official one in TensorFlow (default), another run of effconv, a recorded "
    "trace, a frozen graph or a SavedModel folder.",
)
@click.option("--image", type=PATH, help="Photograph to compare on; default: noise, or drawn pictures.")
@noise_option
@image_size_option
@click.option("--backward", is_flag=True, help="Compare the gradient of every variable too.")
@click.option(
    "--explain",
    is_flag=True,
    help="Try the known porting mistakes one by one where layers differ, and name those that explain the difference.",
)
@click.option(
    "--report",
    type=Output(".html", ".md", ".json", kind="REPORT"),
    help="File (.html, .md or .json) to write the whole comparison to.",
)
@click.option("--port", metavar="NAME", help="Compare another project's own network: effdet, zylo117 or pytorch-tools.")
@click.option(
    "--module",
    metavar="PACKAGE.MODULE:NAME",
    help="Compare your own network: the one that NAME in PACKAGE.MODULE returns when called.",
)
@click.option("--args", "arguments", metavar="JSON", help="Keyword arguments for NAME of --module, as a JSON object.")
@click.option(
    "--candidate-trace", type=PATH, help="Compare activations you recorded in a .npz file; docs/trace.md says how."
)
@click.option(
    "--names",
    type=PATH,
    help="JSON file that pairs modules, {effconv's: the other network's}, where keys and values do not tell.",
)
@click.option("--end-to-end", is_flag=True, help="Compare every stage from an image's bytes to its detections.")
@click.option(
    "--coco", type=PATH, help="Dataset folder to evaluate on: its COCO metrics are compared with the published ones."
)
@evaluation_options(engine_or_file_option)
@verify_option
@json_option
def parity(
    layerwise: bool,
    size: str | None,
    generation: str | None,
    backward: bool,
    explain: bool,
    report: Path | None,
    coco: Path | None,
    backbone: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Compare every layer with the official computation.

    Exits with status 1, naming the first layer that differs, where one does.

    Without a model, a small one that ships with effconv is compared. An option that has no part in the comparison
    asked for is refused.

    With --port, --module or --candidate-trace, another network is compared with effconv's. --explain names the porting
    mistakes of --port and --module, and of an ONNX graph (--engine FILE.onnx); a trace has no network to try them on.

    With --engine NAME, the outputs of that engine on --device are compared with the model's. With --engine FILE, an
    exported file is: of an ONNX graph the inner values that are layers of the model, of a detector the objects it finds
    on pictures (--image, a file or a folder; default: drawn ones).

    With --end-to-end, images (--coco or --image; default: drawn ones) go through both pipelines, and input, raw
    outputs, boxes and detections are compared. Add --port to compare that project's pipeline instead.

    With --coco alone, the model is evaluated on a dataset, and its twelve metrics are compared with the published ones.
    The options under Data and Detections belong to --coco, some of them to --end-to-end too.
    """
    mode = require_used(click.get_current_context())
    theirs = {name: chosen.pop(name) for name in ("port", "module", "arguments", "names", "candidate_trace")}
    if mode is Mode.STAGES:
        shared = {name: chosen[name] for name in ("model", "ckpt", "weights", "verify", "image")}
        shown = {"report": report, "as_json": as_json}
        _parity_of_stages(theirs["port"], {**shared, "size": size}, generation, shown)
    if mode is Mode.EXPORTED:
        shared = {name: chosen[name] for name in ("model", "weights", "verify", "image")}
        parity_of_file(Path(chosen["engine"]), {**shared, "checkpoint": chosen["ckpt"]}, generation, as_json)
    if mode in (Mode.MODULE, Mode.RECORDING, Mode.GRAPH):
        shared = {name: chosen[name] for name in ("model", "ckpt", "weights", "verify", "image", "noise_seed")}
        shown = {"layerwise": layerwise, "report": report, "as_json": as_json}
        if mode is Mode.GRAPH:
            theirs["graph"] = Path(chosen["engine"])
        _parity_of_module(theirs, {**shared, "size": size}, generation, explain, shown)
    del chosen["end_to_end"]  # which the mode says
    evaluating = {name: chosen.pop(name) for name in EVALUATION_NAMES}
    if mode is Mode.END_TO_END:
        shown = {"report": report, "as_json": as_json}
        _parity_end_to_end(coco, {**chosen, "size": size}, evaluating, generation, shown)
    if coco and mode is Mode.COCO:
        shared = {name: chosen[name] for name in ("model", "ckpt", "weights", "verify")}
        _parity_with_published(coco, {**shared, "size": size, **evaluating}, generation, as_json)
    if mode is Mode.ENGINE:
        _parity_of_engine({**chosen, "size": size}, evaluating, generation, as_json)
    from ..effdet_torch.config import get_config
    from ..parity.comparison.backbone import completed
    from ..parity.comparison.layerwise import compare_layerwise
    from ..parity.comparison.report import print_comparison, write_report

    choice = choice_of({**chosen, "size": size})
    with contextlib.ExitStack() as stack:
        whole = None
        if backbone:
            whole = stack.enter_context(completed(backbone, get_config(choice.model or ""), verify=choice.verify))
            choice = choice._replace(checkpoint=whole.checkpoint, weights="raw")
        record = compare_layerwise(
            choice,
            releases(generation, choice.verify),
            command_line(),
            explaining=explain,
            backward=backward,
        )
    if whole:
        record = replace(record, backbone=whole.record)
    if report:
        write_report(record, report)
    if as_json:
        print_json(record.without_pictures().plain())
    else:
        print_comparison(record, layerwise)
        _tell_unexplainable(explain, record)
    sys.exit(0 if record.ok else 1)


def _tell_unexplainable(explain: bool, record: "ComparisonRecord") -> None:
    """Say why nothing was tried where something differs and `--explain` is given: explanations are of layers."""
    from ..parity.rendering.terminal import wrapped

    if explain and not record.ok and record.first_failure is None:
        line = "nothing to explain: no layer differs, and the known mistakes are of layers; what does not hold is above"
        click.echo(wrapped(line))


def _parity_end_to_end(
    coco: Path | None,
    chosen: dict[str, Any],
    evaluating: dict[str, Any],
    generation: str | None,
    shown: dict[str, Any],
) -> NoReturn:
    from ..parity.comparison.end_to_end_job import compare_end_to_end
    from ..parity.comparison.end_to_end_page import write_end_to_end_report
    from ..parity.comparison.end_to_end_record import end_to_end_lines
    from ..parity.rendering.terminal import wrapped_text
    from ..progress import IMAGES, progress

    choice = choice_of(chosen)
    evaluation, _ = describe_evaluation(Path(), {**evaluating, "size": chosen["size"]})
    with progress("comparing", IMAGES) as show:
        compared = compare_end_to_end(
            choice,
            releases(generation, choice.verify),
            command_line(),
            coco,
            evaluation.limit,
            evaluation.settings,
            show,
        )
    record = compared.record
    # First: a run takes minutes, and a picture that its report reads again may have gone.
    if shown["as_json"]:
        print_json(record.plain())
    else:
        click.echo(wrapped_text(end_to_end_lines(record)))
    if shown["report"]:
        write_end_to_end_report(compared, shown["report"])
    sys.exit(0 if record.row.found.ok else 1)


def _parity_of_stages(port: str, chosen: dict[str, Any], generation: str | None, shown: dict[str, Any]) -> NoReturn:
    from ..parity.referee import stages_job
    from ..parity.referee.compare_stages import stage_lines
    from ..parity.referee.stages_page import write_stages_report
    from ..parity.rendering.terminal import wrapped_text

    choice = choice_of(chosen)

    fetch = releases(generation, choice.verify)
    record = stages_job.compare_port_stages(port, choice, fetch, command_line())
    if shown["as_json"]:
        print_json(record.plain())
    else:
        click.echo(wrapped_text(stage_lines(record.found)))
    if shown["report"]:
        write_stages_report(record, shown["report"])
    sys.exit(0 if record.ok else 1)


def _parity_of_engine(
    chosen: dict[str, Any], running: dict[str, Any], generation: str | None, as_json: bool
) -> NoReturn:
    from ..parity.comparison.engine import Runner, compare_engine
    from ..parity.comparison.engine_record import engine_lines
    from ..parity.rendering.terminal import wrapped_text

    choice = choice_of(chosen)

    fetch = releases(generation, choice.verify)
    runner = Runner(running["engine"], running["device"])
    record = compare_engine(choice, fetch, runner, command_line())
    if as_json:
        print_json(record.plain())
    else:
        click.echo(wrapped_text(engine_lines(record)))
    sys.exit(0 if record.ok else 1)


def _parity_of_module(
    theirs: dict[str, Any], chosen: dict[str, Any], generation: str | None, explain: bool, shown: dict[str, Any]
) -> NoReturn:
    from ..parity.comparison.report import print_comparison
    from ..parity.referee.module_job import Theirs, compare_with_module
    from ..parity.rendering.terminal import wrapped_text

    choice = choice_of(chosen)

    fetch = releases(generation, choice.verify)
    command = command_line()
    comparison = compare_with_module(choice, Theirs(**theirs), fetch, command, explain)
    if shown["report"]:
        comparison.report(shown["report"])
    if shown["as_json"]:
        print_json(comparison.typed_record.without_pictures().plain())
    else:
        print_comparison(comparison.typed_record, shown["layerwise"])
        click.echo(wrapped_text(comparison.pairing_lines()))
        _tell_unexplainable(explain, comparison.typed_record)
    sys.exit(0 if comparison.ok else 1)


def _parity_with_published(coco: Path, chosen: dict[str, Any], generation: str | None, as_json: bool) -> NoReturn:
    from ..parity.evaluation.published import compare_with_published
    from ..parity.evaluation.report import print_published
    from ..progress import IMAGES, progress

    asked, stated = describe_evaluation(coco, chosen)

    fetch = releases(generation, asked.verify)
    with progress("evaluating", IMAGES) as show:
        record = compare_with_published(asked, stated, fetch, command_line(), show)
    if record is None:
        sys.exit(0)
    if as_json:
        print_json(record.plain())
    else:
        print_published(record)
    sys.exit(0 if record.published and record.published.holds else 1)
