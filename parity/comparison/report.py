"""Results as people read them: tables on a terminal, Markdown, JSON on disk."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ...convert.output_kinds import PAGE_MARK
from ...errors import EffconvError
from ...strict_json import json_text
from ..rendering.markdown import markdown_table, write_text_report
from ..rendering.record import write_record
from ..rendering.terminal import keeps_lines, wide_console
from .page import write_page
from .records import (
    CheckFigures,
    ComparisonRecord,
    ExplanationRow,
    LayerRow,
    Side,
    Unexercised,
    VariableRow,
    WeightsByName,
)
from .tried import excluded_line

# Parts of the network, by the beginning of our layers' names, in the order of computation.
PARTS = (
    ("backbone", "EfficientNet backbone"),
    ("bifpn.extra_levels", "levels from P6 up"),
    *((f"bifpn.cells.{cell}.", f"BiFPN cell {cell}") for cell in range(64)),
    ("class_head.predict[", "class logits"),
    ("class_head", "class head, hidden"),
    ("box_head.predict[", "box codes"),
    ("box_head", "box head, hidden"),
)
CHECKS = ("float64 local", "float64 accumulated", "float32 local", "float32 accumulated")
GRADIENTS_SHOWN = 10  # on a terminal; one wrong layer changes nearly all gradients
REPORT_KINDS = (".html", ".md", ".json")


def print_comparison(record: ComparisonRecord, layerwise: bool, console: Console | None = None) -> None:
    """A comparison: the verdict first, then a line per layer or a row per part."""
    console = console or wide_console()
    colour = "green" if record.ok else "red"
    console.print(
        f"{record.model}: {record.verdict}", style=f"bold {colour}", soft_wrap=keeps_lines(console), markup=False
    )
    sides = f"{record.candidate.label} beside {record.reference.label}, on {record.images.label}"
    console.print(sides, soft_wrap=keeps_lines(console), markup=False, highlight=False)
    shown = [name for name in CHECKS if any(name in row.checks for row in record.rows)]
    if layerwise:
        for line in layer_lines(record.rows, shown, console.width):
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    else:
        console.print(_parts_table(record.rows, shown))
    wrong = [row for row in record.backward if not row.ok]
    for row in wrong[:GRADIENTS_SHOWN]:
        failed = ", ".join(f"{name} {figure(check)}" for name, check in row.checks.items() if not check.ok)
        console.print(
            f"gradient of {row.variable}: {row.fault or failed}", soft_wrap=keeps_lines(console), markup=False
        )
    if len(wrong) > GRADIENTS_SHOWN:
        console.print(f"... and of {len(wrong) - GRADIENTS_SHOWN} more variables; the record and reports list all")
    for each in record.explanations:
        console.print(explanation(each), soft_wrap=keeps_lines(console), markup=False, highlight=False)
    if line := excluded_line(record):
        console.print(line, soft_wrap=keeps_lines(console), markup=False, highlight=False)


def explanation(each: ExplanationRow) -> str:
    """One explanation in a sentence."""
    doing = f"if the {each.side} computes with {each.change} ({each.summary})"
    if each.explains:
        return f"explained: {doing}, everything from {each.from_layer} on agrees"
    return f"in part: {doing}, layers from {each.from_layer} agree up to {each.first_failure_after}"


def layer_lines(rows: Sequence[LayerRow], checks: Sequence[str], width: int) -> Iterable[str]:
    """A line per layer: outcome, our name, each check's error and limit, the official name; several without room.

    A layer's first line begins with the outcome, at any width.
    """
    longest = max((len(row.layer) for row in rows), default=0)
    official = max((len(f"{row.official} {row.fault}") for row in rows), default=0)
    wide = 6 + 1 + longest + 1 + len(checks) * 30 + official <= width
    if wide:
        yield f"{'':6} {'layer':{longest}} " + " ".join(f"{name + ' (limit)':29}" for name in checks) + " official name"
    else:
        yield f"{'':7}layer, official name; of each check, error (limit):"
        yield f"{'':7}" + "".join(f"{name.replace('accumulated', 'accum.'):18}" for name in checks).rstrip()
    for row in rows:
        outcome = "ok" if row.ok else "DIFFER"
        figures = [figure(row.checks.get(name)) for name in checks]
        if wide:
            cells = " ".join(f"{each:29}" for each in figures)
            yield f"{outcome:6} {row.layer:{longest}} {cells} {row.official} {row.fault}".rstrip()
        else:
            yield f"{outcome:6} {row.layer}"
            yield from (f"{'':7}{name}" for name in (row.official, row.fault) if name)
            yield f"{'':7}" + "".join(f"{each:18}" for each in figures).rstrip()


def figure(check: CheckFigures | None) -> str:
    """A check's error and limit; empty where there is none."""
    if check is None:
        return ""
    error, limit = ("none" if value is None else f"{value:.1e}" for value in (check.error, check.limit))
    return f"{error} ({limit})"


def _parts_table(rows: Sequence[LayerRow], checks: Sequence[str]) -> Table:
    title = "largest relative difference, max|a-b|/max|b|"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("part", no_wrap=True)
    table.add_column("layers\nthat hold", justify="right", no_wrap=True)
    for name in checks:
        table.add_column(no_wrap=True, header=name.replace(" ", "\n"), justify="right")
    table.add_column("", no_wrap=True)
    left = list(rows)
    grouped = []
    for prefix, label in PARTS:
        grouped.append((label, [row for row in left if row.layer.startswith(prefix)]))
        left = [row for row in left if not row.layer.startswith(prefix)]
    for label, members in (*grouped, ("not in this model", left)):
        if not members:
            continue
        failed = sum(not row.ok for row in members)
        verdict = "[red]DIFFER[/red]" if failed else "[green]ok[/green]"
        table.add_row(
            label, f"{len(members) - failed} of {len(members)}", *(_worst(members, name) for name in checks), verdict
        )
    return table


def _worst(rows: Sequence[LayerRow], name: str) -> str:
    errors = [row.checks[name].error for row in rows if name in row.checks]
    finite = [error for error in errors if error is not None]
    if len(finite) < len(errors):
        return "none"
    return f"{max(finite):.1e}" if finite else ""


def require_report_kind(path: Path) -> None:
    """Raises EffconvError for a report of a kind that is not written."""
    if path.suffix not in REPORT_KINDS:
        raise EffconvError(f"{path}: expected a file ending in {', '.join(REPORT_KINDS)}", parameters={"report": None})


def write_report(record: ComparisonRecord, path: Path) -> None:
    """The whole comparison as HTML, Markdown or JSON, by the file's ending. Raises EffconvError."""
    require_report_kind(path)
    if path.suffix == ".html":
        write_page(record, path)
    elif path.suffix == ".json":
        write_record(record.plain(), path)
    else:
        write_text_report(path, comparison_markdown(record))


def comparison_markdown(record: ComparisonRecord) -> str:
    """The comparison as Markdown: verdict, sides, every layer, explanations, gradients, provenance."""

    def table(what: str, rows: Iterable[tuple[str, LayerRow | VariableRow]], checks: Sequence[str]) -> list[str]:
        cells = []
        for name, row in rows:
            figures = (figure(row.checks.get(check)) for check in checks)
            outcome = "ok" if row.ok else f"**differs** {row.fault}".strip()
            cells.append([f"`{name}`", f"`{row.official}`", *figures, outcome])
        return ["", markdown_table([what, "official name", *checks, ""], cells)]

    lines = [PAGE_MARK, "", f"# {record.model}: {record.verdict}", ""]
    sides: dict[str, Side] = {"reference": record.reference, "candidate": record.candidate, "images": record.images}
    lines += [f"- {name}: {side_line(side)}" for name, side in sides.items()]
    lines += [f"- {explanation(each)}" for each in record.explanations]
    lines += [f"- {line}" for line in (excluded_line(record),) if line]
    lines += table("layer", ((row.layer, row) for row in record.rows), CHECKS)
    if record.backward:
        lines += table("variable", ((row.variable, row) for row in record.backward), ("float64", "float32"))
    if record.tensors:
        lines += weights_lines(record.tensors, record.unexercised)
    lines += ["", "```json", json_text(record.provenance, indent=1), "```", ""]
    return "\n".join(lines)


def side_line(side: Side) -> str:
    """What a side is, and which files: by name, and by what is in them."""
    known = ("checkpoint", "weights", "checkpoint_fingerprint", "sha256")
    said = side.plain()
    return "; ".join([side.label, *(f"{name.replace('_', ' ')} `{said[name]}`" for name in known if name in said)])


def weights_lines(tensors: WeightsByName, unexercised: Sequence[Unexercised]) -> list[str]:
    """Tensors that are not the checkpoint's, and weights that the images do not reach, as Markdown."""
    differ = tensors.differ
    lines = [
        "",
        f"Tensors compared by name: {tensors.compared}, read {tensors.read_by}; {len(differ)} differ.",
        "",
    ]
    lines += [f"- `{each.tensor or each.official}` (`{each.official}`): {each.reason}" for each in differ]
    for each in unexercised:
        what = "; ".join(f"{name} {value}" for name, value in each.plain().items() if name != "module")
        lines.append(f"- not reached by the images: `{each.module}`: {what}")
    return lines
