"""A record of ablations as a picture: differences of AP with their intervals, stage by stage."""

import io

from ...errors import EffconvError
from .page import COLOURS
from .record import AblationRecord
from .registry import STAGES

ROW_INCHES = 0.2
SEED = "effconv"  # of the names in the file, so that the same record gives the same bytes


def ablation_chart(record: AblationRecord) -> str:
    """The record (`run.run_study`) as SVG; the same text each time. Raises EffconvError without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EffconvError("a chart needs matplotlib: pip install matplotlib") from error
    rows = sorted(record.changed, key=lambda row: (STAGES.index(row.stage or STAGES[0]), row.cost.difference))
    costs = [row.cost for row in rows]
    with matplotlib.rc_context({"svg.hashsalt": SEED, "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 1 + ROW_INCHES * len(rows)), layout="constrained")
        canvas, axes = FigureCanvasSVG(figure), figure.subplots()
        differences = [each.difference for each in costs]
        intervals = [
            [each.difference - each.low for each in costs],
            [each.high - each.difference for each in costs],
        ]
        colours = [COLOURS[each.verdict] for each in costs]
        axes.barh(range(len(rows)), differences, color=colours, xerr=intervals, ecolor="#111827", error_kw={"lw": 1})
        axes.set_yticks(range(len(rows)), [f"{row.stage}: {row.name}" for row in rows], fontsize=7)
        axes.set(xlabel=f"difference from AP {record.baseline.metrics['AP']:.3f}", ylim=(len(rows) - 0.4, -0.6))
        axes.axvline(0, color="#111827", lw=0.8)
        axes.grid(axis="x", lw=0.3)
        text = io.StringIO()
        canvas.print_svg(text, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
