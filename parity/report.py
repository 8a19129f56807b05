"""Results as people read them: tables on a terminal, Markdown in the README, JSON on disk."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ..convert.output import replacing

if TYPE_CHECKING:
    from .compare import Row
    from .demo import Demo

# Parts of the network, by the official name's beginning, as the demonstration groups its rows.
PARTS = (
    ("backbone", "EfficientNet backbone"),
    ("resample_p", "P6 and P7 from P5"),
    ("fpn_cells/cell_0", "BiFPN cell 0"),
    ("fpn_cells/cell_1", "BiFPN cell 1"),
    ("class_net", "class head, hidden"),
    ("box_net", "box head, hidden"),
    ("class_outputs", "class logits"),
    ("box_outputs", "box codes"),
)


def print_demo(demo: "Demo", console: Console | None = None) -> None:
    """The demonstration as a short table: one line per part of the network, with its worst layer."""
    console = console or Console()
    conversion = demo.conversion
    console.print(
        f"[bold]{conversion.config.name}[/bold]: {len(conversion.plan.rows)} variables converted (moving averages), "
        f"{len(conversion.plan.dropped)} others accounted for, 0 left over",
        soft_wrap=True,
    )
    limit = max(row.limit for row in demo.rows)
    title = f"every layer beside the official code's recorded activations (limit {limit:.0e})"
    table = Table(title=title, title_justify="left")
    table.add_column("part", no_wrap=True)
    table.add_column("layers", justify="right")
    table.add_column("worst", justify="right")
    table.add_column("in", no_wrap=True)
    table.add_column("")
    for prefix, label in PARTS:
        rows = [row for row in demo.rows if row.name.startswith(prefix)]
        worst = max(rows, key=lambda row: row.error)
        place = worst.module.partition(".")[2]  # the part says the rest
        verdict = "[green]ok[/green]" if all(row.ok for row in rows) else "[red]differs[/red]"
        table.add_row(label, str(len(rows)), f"{worst.error:.1e}", place, verdict)
    console.print(table)
    for row in failures(demo.rows):
        console.print(f"[red]{row.name}[/red]: error {row.error:.2e}, limit {row.limit:.0e} {row.fault}")
    verdict = "[green]nothing changed on the way[/green]" if demo.ok else "[red]some layer diverges[/red]"
    error = "relative error max|a-b|/max|b| in float32"
    console.print(f"{len(demo.rows)} layers, {error}: {verdict}", soft_wrap=True)


def failures(rows: "Iterable[Row]") -> "list[Row]":
    """The rows over their limit, in the order of computation."""
    return [row for row in rows if not row.ok]


def conversion_table(record: dict[str, Any]) -> str:
    """A conversion benchmark (`effconv bench convert`) as a Markdown table: ratios first, then the medians."""
    lines = [f"| {record['model']} | effconv | TensorFlow | ratio | promised |", "|---|---|---|---|---|"]
    for row in record["rows"]:
        ours, theirs = (f"{_figure(row[side])} {row['unit']}" for side in ("effconv", "tensorflow"))
        lines.append(f"| {row['what']} | {ours} | {theirs} | {row['ratio']:.2f} | {row['bar']} |")
    return "\n".join(lines)


def _figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record of measurements as JSON. Raises OutputError when it cannot be written."""
    with replacing(path) as (file,):
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def layers_table(record: dict[str, Any]) -> str:
    """The worst layer of each model against its recorded activations (`tools/record_layers.py`), as Markdown."""
    lines = [
        "| model | input | layers | within limit | worst error | limit | worst layer |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        lines.append(
            f"| {row['model']} | {row['size']} | {row['layers']} | {row['layers_within_limit']} "
            f"| {row['worst_error']:.1e} | {row['limit']:.1e} | `{row['worst_layer']}` |"
        )
    return "\n".join(lines)
