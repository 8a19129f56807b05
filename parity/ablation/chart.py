"""A record of ablations as a picture: differences of AP with their intervals, stage by stage."""

import io
from collections.abc import Mapping
from typing import Any

from ...errors import EffconvError
from .page import COLOURS
from .registry import STAGES

ROW_INCHES = 0.2
SEED = "effconv"  # of the names in the file, so that the same record gives the same bytes


def ablation_chart(record: Mapping[str, Any]) -> str:
    """The record (`run.run_study`) as SVG; the same text each time. Raises EffconvError without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EffconvError("a chart needs matplotlib: pip install matplotlib") from error
    baseline, *changed = record["rows"]
    rows = sorted(changed, key=lambda row: (STAGES.index(row["stage"]), row["differences"]["AP"]["difference"]))
    changes = [row["differences"]["AP"] for row in rows]
    with matplotlib.rc_context({"svg.hashsalt": SEED, "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 1 + ROW_INCHES * len(rows)), layout="constrained")
        canvas, axes = FigureCanvasSVG(figure), figure.subplots()
        differences = [each["difference"] for each in changes]
        intervals = [
            [each["difference"] - each["low"] for each in changes],
            [each["high"] - each["difference"] for each in changes],
        ]
        colours = [COLOURS[each["verdict"]] for each in changes]
        axes.barh(range(len(rows)), differences, color=colours, xerr=intervals, ecolor="#111827", error_kw={"lw": 1})
        axes.set_yticks(range(len(rows)), [f"{row['stage']}: {row['name']}" for row in rows], fontsize=7)
        axes.set(xlabel=f"difference from AP {baseline['metrics']['AP']:.3f}", ylim=(len(rows) - 0.4, -0.6))
        axes.axvline(0, color="#111827", lw=0.8)
        axes.grid(axis="x", lw=0.3)
        text = io.StringIO()
        canvas.print_svg(text, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
