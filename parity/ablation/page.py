"""Ablations as one HTML page that needs no network: a chart of differences with their intervals, and every figure."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...convert.output import replacing
from ...convert.output_kinds import PAGE_MARK
from ...errors import EffconvError
from ..evaluation.coco import METRICS
from ..rendering.html import asset, definitions, plotly_script
from .record import AblationRecord, AblationRow
from .significance import JUDGED

COLOURS = {"worse": "#b3261e", "no effect": "#6b7280", "too few images": "#6b7280", "better": "#11734b"}
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
ROW_PIXELS = 22  # of the chart's height


def write_ablation_page(record: AblationRecord, path: Path) -> None:
    """Write the page of one record (`run.run_study`). Raises EffconvError without plotly."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise EffconvError(f"{path}: expected a file ending in .html", parameters={"report": None})
    page = render_ablation_page(record)
    with replacing(path) as (temporary,):
        temporary.write_text(page, encoding="utf-8")


def render_ablation_page(record: AblationRecord) -> str:
    """The page as text."""
    title = f"{record.subject.model}: what details of a port cost"
    changed = sorted(record.changed, key=lambda row: row.cost.difference)
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{asset("page.css")}</style>'
        f"<script>{plotly_script()}</script>"
    )
    about = (
        f"One change at a time beside one baseline: AP {record.baseline.metrics['AP']:.4f} "
        f"on {record.subject.images} images. "
        f"Intervals hold 95 % of {record.resamples} paired resamples of the images. "
        f"{JUDGED}"
    )
    return (
        f'<!doctype html>\n{PAGE_MARK}\n<html lang="en"><head>{head}</head><body><main>'
        f"<h1>{escape(title)}</h1><p>{escape(about)}</p>"
        f'<div id="chart">{_chart(changed)}</div>\n<div class="scroll">{_table([record.baseline, *changed])}</div>'
        f"<h2>Provenance</h2>{definitions(dict(record.subject.provenance))}</main></body></html>\n"
    )


def _chart(rows: Sequence[AblationRow]) -> str:
    try:
        from plotly.graph_objects import Bar, Figure
    except ImportError as error:  # `plotly_script` says so first
        raise EffconvError("an HTML page needs plotly: pip install plotly") from error
    costs = [row.cost for row in rows]
    bars = Bar(
        x=[each.difference for each in costs],
        y=[row.name for row in rows],
        orientation="h",
        marker={"color": [COLOURS[each.verdict] for each in costs]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [each.high - each.difference for each in costs],
            "arrayminus": [each.difference - each.low for each in costs],
        },
        hovertext=[row.summary for row in rows],
    )
    figure = Figure(bars)
    figure.update_layout(
        height=120 + ROW_PIXELS * len(rows),
        margin={"r": 20, "t": 20},  # on the sides with names there is as much room as they need
        xaxis={"title": {"text": "difference of AP"}},
        yaxis={"autorange": "reversed", "dtick": 1, "automargin": True},
        template="plotly_white",
    )
    return str(figure.to_html(full_html=False, include_plotlyjs=False))


def _table(rows: Sequence[AblationRow]) -> str:
    titles = ("change", "what it does", *METRICS, "difference of AP", "95 % interval", "verdict", "images/s")
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    return f'<table id="rows"><thead><tr>{head}</tr></thead><tbody>{"".join(map(_row, rows))}</tbody></table>'


def _row(row: AblationRow) -> str:
    cells = [
        row.name,
        row.summary,
        *("-" if row.metrics[name] < 0 else f"{row.metrics[name]:.4f}" for name in METRICS),
        f"{row.cost.difference:+.4f}",
        f"{row.cost.low:+.4f} to {row.cost.high:+.4f}",
        row.cost.verdict,
        f"{1 / row.network_seconds_per_image:.1f}",
    ]
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
