"""The demonstration's page: verdicts, metrics, pictures and the training's curve, in one file without scripts."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...convert.output_kinds import PAGE_MARK

OUTCOMES = {True: ("holds", "good"), False: ("does not hold", "bad"), None: ("not proven", "open")}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1c2330; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #d8dde6; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: #11734b; } .bad { color: #b3261e; } .open { color: #8a5a00; }
.pictures { display: flex; flex-wrap: wrap; gap: .6rem; }
.pictures img { width: 240px; image-rendering: pixelated; border: 1px solid #d8dde6; }
footer { color: #5b6472; font-size: .85rem; margin-top: 2rem; }
img.curve { max-width: 100%; }
"""


def demo_page(record: Mapping[str, Any], training: Mapping[str, Any], curve: Path, drawings: Sequence[Path]) -> str:
    """HTML of a demonstration's record, its detector's training record and curve, and pictures (PNG)."""
    verdict = "nothing changed on the way" if record["ok"] else "something changed on the way"
    made, trained = record["provenance"], training["evaluations"][-1]
    categories = [[_text_cell(name), _number(value)] for name, value in record["per_category"].items()]
    pictures = "".join(f'<img src="{_embedded(path)}" alt="{html.escape(path.stem)}">' for path in drawings)
    parts = [
        f'<h1 class="{OUTCOMES[record["ok"]][1]}">{_text(record["model"])}: {verdict}</h1>',
        "<p>A small detector that ships with effconv as an official-format TensorFlow checkpoint, converted to PyTorch "
        f"and followed from the bytes of its pictures to the metrics. Beside it: {_text(record['reference'])}.</p>",
        _table(("step", "outcome", "what was found"), [_step(step) for step in record["steps"]]),
        "<h2>Metrics</h2>",
        _table(("metric", "effconv", "TensorFlow"), [_metric(row) for row in record["metrics"]]),
        "<h2>By category</h2>",
        _table(("category", "AP"), categories),
        f'<h2>Found in the first pictures</h2><div class="pictures">{pictures}</div>',
        f"<h2>How it was trained</h2><p>{training['steps']} steps on {training['images']} drawn pictures, "
        f"{training['parameters']:,} parameters; on held-out pictures AP {trained['AP']:.3f}, "
        f"AP75 {trained['AP75']:.3f}, of small objects {trained['APs']:.3f}.</p>",
        f'<img class="curve" src="{_embedded(curve)}" alt="losses and metrics by step">',
        f"<footer>Made by <code>{_text(made['command'])}</code>, effconv {_text(made['effconv'])}, commit "
        f"{_text(made['git_commit'])}, Python {_text(made['python'])}, "
        f"torch {_text(made['versions']['torch'])}.</footer>",
    ]
    head = f'<meta charset="utf-8"><title>{_text(record["model"])}: {verdict}</title><style>{STYLE}</style>'
    return (
        f'<!doctype html>\n{PAGE_MARK}\n<html lang="en"><head>{head}</head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _step(step: Mapping[str, Any]) -> list[str]:
    outcome, kind = OUTCOMES[step["holds"]]
    return [_text_cell(step["name"]), f'<td class="{kind}">{outcome}</td>', _text_cell(step["verdict"])]


def _metric(row: Mapping[str, Any]) -> list[str]:
    return [_text_cell(row["metric"]), _number(row["ours"]), _number(row["official"])]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: float) -> str:
    # COCO's metrics are -1 where there is nothing to measure.
    return f'<td class="number">{"-" if value < 0 else f"{value:.4f}"}</td>'


def _text_cell(value: object) -> str:
    return f"<td>{_text(value)}</td>"


def _text(value: object) -> str:
    return html.escape(str(value))


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
