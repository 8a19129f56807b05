"""A port's stages beside the official ones as a report: a page of HTML without scripts, Markdown or JSON."""

from html import escape
from pathlib import Path

from ...convert.output_kinds import PAGE_MARK
from ...strict_json import json_text
from ..comparison.report import require_report_kind
from ..rendering.html import FAILS, HOLDS, OPEN, Page, cell, table, write_page
from ..rendering.markdown import markdown_text, write_text_report
from ..rendering.record import write_record
from .compare_stages import StageComparison, StageDifference, stage_lines
from .stages_job import StagesRecord


def write_stages_report(record: StagesRecord, path: Path) -> None:
    """The comparison as HTML, Markdown or JSON, by the file's ending. Raises EffconvError."""
    require_report_kind(path)
    if path.suffix == ".html":
        write_page(stages_page(record), path)
    elif path.suffix == ".json":
        write_record(record.plain(), path)
    else:
        verdict, about, *rows = stage_lines(record.found)
        lines = [
            PAGE_MARK,
            "",
            f"# {markdown_text(verdict)}",
            "",
            markdown_text(about),
            "",
            "```text",
            *rows,
            "```",
            "",
        ]
        lines += ["```json", json_text(record.provenance, indent=1), "```", ""]
        write_text_report(path, "\n".join(lines))


def stages_page(record: StagesRecord) -> Page:
    """The page. What a port is called and its picture's name are anybody's, and escaped."""
    found = record.found
    head = ("stage", "result", "differs by", "allowed", "effconv differs by", "of what")
    wrong = [row for row in found.rows if not row.ok]
    reasons = "\n".join(_reason(row) for row in wrong)
    why = f"<section><h2>What it does otherwise</h2>{reasons}</section>" if wrong else ""
    return Page(
        title=f"{found.theirs} beside {found.official}",
        heading=f"{found.theirs}, from a picture's bytes to detections",
        verdict=found.verdict,
        state=(HOLDS if found.whole else OPEN) if record.ok else FAILS,
        explanation=_meaning(found, wrong),
        content=f"<section><h2>Stages</h2>{table(head, [_line(row) for row in found.rows], 'stages')}</section>\n{why}",
        provenance=record.provenance,
    )


def _meaning(found: StageComparison, wrong: list[StageDifference]) -> str:
    height, width = found.picture_size
    about = (
        f"Beside {found.official}: {found.model} at {found.image_size[0]} x {found.image_size[1]}, picture "
        f"{found.picture} ({height} x {width}), {found.detections} official detections. Every stage is fed the "
        "official values of the stages before it, so that each differs by its own fault alone."
    )
    first = f"<p>First stage that differs: {escape(wrong[0].stage)}</p>" if wrong else ""
    return f"<p>{escape(about)}</p>{first}"


def _line(row: StageDifference) -> list[str]:
    if not row.there:
        outcome = cell("not in its code", "open-text")
    else:
        outcome = cell("holds", "ok-text") if row.ok else cell("differs", "failed-text")
    figures = (row.unlike or _figure(row.differs), _figure(row.limit), _figure(row.effconv))
    return [cell(row.stage), outcome, *(cell(each, "number") for each in figures), cell(row.what)]


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value.is_integer() else f"{value:.2g}"


def _reason(row: StageDifference) -> str:
    """Why a stage differs, and what is left of the difference once effconv does the same."""
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in row.why) or "<li>No known change comes nearer.</li>"
    left = "" if row.left is None else f"<p>effconv made to do the same differs from it by {_figure(row.left)}.</p>"
    return f'<article class="serious"><h3>{escape(row.stage)}</h3><ul>{said}</ul>{left}</article>'
