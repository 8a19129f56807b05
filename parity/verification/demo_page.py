"""The demonstration's page: verdicts, pictures beside metrics, the layers and the training, in one file without
scripts."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..comparison.records import LayerRow
from ..rendering.depth import Curve, depth_chart
from ..rendering.html import FAILS, HOLDS, OPEN, Page, cell, table
from .demo_pictures import Panel
from .outcome import OUTCOMES

PENS = {
    "float32 error": ("float32 accumulated", "error", "first"),
    "float32 limit": ("float32 accumulated", "limit", "limit first"),
    "float64 error": ("float64 accumulated", "error", "second"),
    "float64 limit": ("float64 accumulated", "limit", "limit second"),
}


def demo_verdict(record: Mapping[str, Any]) -> tuple[str, str]:
    """What a demonstration came to, in words and as a state of `Page`."""
    if not record["ok"]:
        return "something changed on the way", FAILS
    if not all(step["holds"] for step in record["steps"]):
        return "no step fails, but not every step is proven", OPEN
    return "nothing changed on the way", HOLDS


def demo_page(
    record: Mapping[str, Any],
    layers: Sequence[LayerRow],
    training: Mapping[str, Any],
    curve: Path,
    strips: Sequence[Sequence[Panel]],
) -> Page:
    """The page of a demonstration's record, the layers compared, its detector's training record and curve (PNG), and
    pictures.
    """
    verdict, state = demo_verdict(record)
    trained = training["evaluations"][-1]
    categories = [[cell(name), cell(_figure(value), "number")] for name, value in record["per_category"].items()]
    pictures = "".join(f'<div class="strip">{"".join(map(_panel, strip))}</div>' for strip in strips)
    content = (
        f'<section class="beside"><div><h2>The same pictures</h2>{pictures}</div><div>'
        "<h2>Metrics, beside the recorded</h2>"
        f"{table(('metric', 'effconv', 'TensorFlow'), [_metric(row) for row in record['metrics']])}"
        f"<h2>By category</h2>{table(('category', 'AP'), categories)}</div></section>\n"
        f"<section><h2>Error over depth</h2>{_depth(layers)}</section>\n"
        f"<section><h2>How it was trained</h2><p>{training['steps']} steps on {training['images']} drawn pictures, "
        f"{training['parameters']:,} parameters; on held-out pictures AP {trained['AP']:.3f}, "
        f"AP75 {trained['AP75']:.3f}, of small objects {trained['APs']:.3f}.</p>"
        f'<img src="{_embedded(curve)}" alt="losses and metrics by step"></section>'
    )
    steps = table(("step", "outcome", "what was found"), [_step(step) for step in record["steps"]])
    return Page(
        title=f"{record['model']}: {verdict}",
        heading=f"{record['model']}, from pictures to metrics",
        verdict=verdict,
        state=state,
        explanation=(
            "<p>A small detector that ships with effconv as an official-format TensorFlow checkpoint, converted to "
            "PyTorch and followed from the bytes of its pictures to the metrics. Beside it: "
            f"{html.escape(record['reference'])}.</p>"
        ),
        content=f"<section>{steps}</section>\n{content}",
        provenance=record["provenance"],
    )


def _step(step: Mapping[str, Any]) -> list[str]:
    outcome, kind = OUTCOMES[step["holds"]]
    return [cell(step["name"]), cell(outcome, kind), cell(step["verdict"], "text")]


def _metric(row: Mapping[str, Any]) -> list[str]:
    return [cell(row["metric"]), cell(_figure(row["ours"]), "number"), cell(_figure(row["official"]), "number")]


def _figure(value: float) -> str:
    # COCO's metrics are -1 where there is nothing to measure.
    return "-" if value < 0 else f"{value:.4f}"


def _depth(layers: Sequence[LayerRow]) -> str:
    curves = []
    for name, (check, figure, pen) in PENS.items():
        checks = [row.checks.get(check) for row in layers]
        values = [None if each is None else getattr(each, figure) for each in checks]
        if any(value is not None for value in values):
            curves.append(Curve(name, pen, values))
    return depth_chart(f"largest relative difference of each of {len(layers)} layers, in order of execution", curves)


def _panel(panel: Panel) -> str:
    caption = html.escape(panel.caption)
    return f'<figure><img src="{panel.source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
