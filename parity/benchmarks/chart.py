"""Records of `effconv bench inference` as a picture: images a second beside the same contestant, with quartiles."""

import io
from collections.abc import Sequence

from ...errors import EffconvError
from .network_records import InferenceRecord, InferenceRow

BAR_INCHES = 0.17
SEED = "effconv"  # of the names in the file, so that the same records give the same bytes
OURS = ("eager", "fast", "compile", "onnxruntime", "openvino")
COLOURS = {"ours": "#1f5fa8", "theirs": "#9aa3af", "another function": "#e3c27a"}


def relative_speeds(rows: Sequence[InferenceRow]) -> list[tuple[str, float, float, float]]:
    """(contestant, its images a second in those of the one it stands beside: median, lower and upper quartile) by row.

    The quartiles are the contestant's own, beside the other's median; the upper of time is the lower of speed.
    """
    found = []
    for row in rows:
        fastest, slowest = (row.times_faster * row.milliseconds_per_image / each for each in row.quartiles)
        found.append((row.contestant, row.times_faster, slowest, fastest))
    return found


def speed_chart(records: Sequence[InferenceRecord]) -> str:
    """The records as SVG, one group a model and batch size; the same text each time. Raises EffconvError without
    matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EffconvError("a chart needs matplotlib: pip install matplotlib") from error
    groups = [
        (record, batch, [row for row in record.rows if row.batch == batch])
        for record in records
        for batch in dict.fromkeys(row.batch for row in record.rows)
    ]
    counts = [len(rows) for _, _, rows in groups]
    with matplotlib.rc_context({"svg.hashsalt": SEED, "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, BAR_INCHES * sum(counts) + 0.55 * len(groups) + 0.3), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        every = figure.subplots(len(groups), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": counts})
        for axes, (record, batch, rows) in zip(every[:, 0], groups, strict=True):
            speeds = relative_speeds(rows)
            middles = [middle for _, middle, _, _ in speeds]
            spread = [[m - low for _, m, low, _ in speeds], [high - m for _, m, _, high in speeds]]
            colours = [COLOURS[_kind(row)] for row in rows]
            axes.barh(range(len(rows)), middles, color=colours, xerr=spread, ecolor="#111827", error_kw={"lw": 1})
            axes.set_yticks(range(len(rows)), [row.contestant for row in rows], fontsize=7)
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.axvline(1, color="#111827", lw=0.8)
            axes.grid(axis="x", lw=0.3)
            height, width = record.image_size
            axes.set_title(
                f"{record.model} at {height}x{width}, batch {batch}, {record.threads} threads: "
                f"images a second, {rows[0].beside} = 1",
                fontsize=8,
                loc="left",
            )
        text = io.StringIO()
        canvas.print_svg(text, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _kind(row: InferenceRow) -> str:
    if row.error_beside_the_model is None:
        return "another function"
    return "ours" if row.contestant in OURS else "theirs"
