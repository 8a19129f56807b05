"""Ablations as one HTML page that needs no network: bars of differences with their intervals, and every figure."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...errors import EffconvError
from ..evaluation.coco import METRICS
from ..rendering import html
from ..rendering.html import OPEN, Page, cell, render, table
from .record import AblationRecord, AblationRow
from .significance import JUDGED

COLOURS = {"worse": "#b3261e", "no effect": "#6b7280", "too few images": "#6b7280", "better": "#11734b"}
# Of verdicts: those whose rows have bars, and what is said of the others in a line that unfolds.
SHOWN = ("worse", "better")
FOLDED = {"no effect": "no effect that could be told from chance", "too few images": "too few images to tell"}


def write_ablation_page(record: AblationRecord, path: Path) -> None:
    """Write the page of one record (`run.run_study`)."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise EffconvError(f"{path}: expected a file ending in .html", parameters={"report": None})
    html.write_page(ablation_page(record), path)


def render_ablation_page(record: AblationRecord) -> str:
    """The page as text."""
    return render(ablation_page(record))


def ablation_page(record: AblationRecord) -> Page:
    """The page, largest effects first."""
    title = f"{record.subject.model}: what details of a port cost"
    changed = sorted(record.changed, key=lambda row: -abs(row.cost.difference))
    about = (
        f"One change at a time beside one baseline: AP {record.baseline.metrics['AP']:.4f} "
        f"on {record.subject.images} images. Intervals hold 95 % of {record.resamples} paired resamples of the images. "
        f"{JUDGED}"
    )
    return Page(
        title=title,
        heading=title,
        verdict=_verdict(changed),
        state=OPEN,
        explanation=f"<p>{escape(about)}</p>",
        content=(
            f'<section aria-labelledby="chart-title"><h2 id="chart-title">Difference of AP</h2>{_chart(changed)}'
            f"</section>\n<section><h2>Every figure</h2>{_table([record.baseline, *changed])}</section>"
        ),
        provenance=record.subject.provenance,
    )


def _verdict(rows: Sequence[AblationRow]) -> str:
    counted = {name: sum(row.cost.verdict == name for row in rows) for name in COLOURS}
    told = ", ".join(f"{count} {name}" for name, count in counted.items() if count)
    if not counted["worse"]:
        return f"{len(rows)} changes: {told}"
    worst = min((row for row in rows if row.cost.verdict == "worse"), key=lambda row: row.cost.difference)
    return f"{len(rows)} changes: {told}; the most costly is {worst.name}, {worst.cost.difference:+.4f} AP"


def _chart(rows: Sequence[AblationRow]) -> str:
    """A bar and an interval for every change that has an effect; a line that unfolds for the others."""
    span = _span(rows)
    shown = [row for row in rows if row.cost.verdict in SHOWN]
    parts = [_bars(shown, span)] if shown else ["<p>No change has an effect that could be told from chance.</p>"]
    for verdict, words in FOLDED.items():
        others = [row for row in rows if row.cost.verdict == verdict]
        if others:
            names = ", ".join(row.name for row in others)
            parts.append(
                f'<details class="folded"><summary>{len(others)} with {escape(words)}: {escape(names)}</summary>'
                f"{_bars(others, span)}</details>"
            )
    return "\n".join(parts)


def _span(rows: Sequence[AblationRow]) -> tuple[float, float]:
    """The least and the largest difference of AP that bars or intervals reach, zero among them."""
    ends = [0.0, *(end for row in rows for end in (row.cost.low, row.cost.difference, row.cost.high))]
    return min(ends), max(ends)


def _bars(rows: Sequence[AblationRow], span: tuple[float, float]) -> str:
    low, high = span
    width = high - low or 1.0

    def placed(name: str, start: float, end: float) -> str:
        left, right = 100 * (min(start, end) - low) / width, 100 * (max(start, end) - low) / width
        return f'<i class="{name}" style="left:{left:.2f}%;width:{right - left:.2f}%"></i>'

    lines = []
    for row in rows:
        cost = row.cost
        track = (
            f"{placed('length', 0.0, cost.difference)}{placed('interval', cost.low, cost.high)}"
            f'<i class="zero" style="left:{100 * (0.0 - low) / width:.2f}%"></i>'
        )
        lines.append(
            f'<div class="row {escape(cost.verdict)}" title="{escape(row.summary)}">'
            f'<span class="name">{escape(row.name)}</span><span class="verdict">{escape(cost.verdict)}</span>'
            f'<span class="track">{track}</span>'
            f'<span class="figure">{cost.difference:+.4f} ({cost.low:+.4f} to {cost.high:+.4f})</span></div>'
        )
    return f'<div class="effects">{"".join(lines)}</div>'


def _table(rows: Sequence[AblationRow]) -> str:
    titles = ("change", "verdict", "difference of AP", "95 % interval", *METRICS, "images/s", "what it does")
    return table(titles, list(map(_row, rows)), "rows")


def _row(row: AblationRow) -> list[str]:
    kind = {"worse": "failed-text", "better": "ok-text"}.get(row.cost.verdict, "")
    figures = (
        f"{row.cost.difference:+.4f}",
        f"{row.cost.low:+.4f} to {row.cost.high:+.4f}",
        *("-" if row.metrics[name] < 0 else f"{row.metrics[name]:.4f}" for name in METRICS),
        f"{1 / row.network_seconds_per_image:.1f}",
    )
    verdict = "baseline" if row.stage is None else row.cost.verdict
    return [
        cell(row.name),
        cell(verdict, kind),
        *(cell(figure, "number") for figure in figures),
        cell(row.summary),
    ]
