"""The layer-by-layer comparison as one HTML file that needs no network: curves, a table, every layer's figures."""

import base64
import math
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rendering import html
from ..rendering.html import FAILS, HOLDS, Page, asset, cell, definitions, packed_json, render, table
from .records import ComparisonRecord, Heat
from .tried import NOT_TRIED, excluded_line, unhelpful

# One script, in this order: the last file uses the functions of the others.
SCRIPTS = ("table.js", "plot.js", "growth.js", "detail.js", "page.js")
DIGITS = 6  # of a figure, of which the page shows two
STEPS = 254  # of a heat map's colours and figures; one byte a cell
NOT_FINITE = 255
MOST_CELLS = 350_000  # of all heat maps: a page is to stay below a megabyte however deep the network


def write_page(record: ComparisonRecord, path: Path) -> None:
    """Write the page for one comparison to `path`; nothing is left there when it cannot be written."""
    html.write_page(comparison_page(record), path)


def render_page(record: ComparisonRecord) -> str:
    """The page as text."""
    return render(comparison_page(record))


def comparison_page(record: ComparisonRecord) -> Page:
    """The page: prose and short tables are HTML already, the script draws the rest from the record."""
    content = Template(asset("layers.html")).substitute(
        sides=definitions(
            {
                "reference": record.reference.plain(),
                "candidate": record.candidate.plain(),
                "images": record.images.plain(),
            }
        ),
        explanations=explanations(record) if record.explanations or record.tried else "",
        backward=asset("backward.html") if record.backward else "",
        weights=weights(record),
    )
    script = "\n".join(asset(name) for name in SCRIPTS)
    return Page(
        title=f"{record.model}: layer by layer",
        heading=f"{record.model}, layer by layer",
        verdict=record.verdict,
        state=HOLDS if record.ok else FAILS,
        explanation=meaning(record),
        content=content,
        provenance=record.provenance,
        scripts=(
            f'<script type="application/octet-stream" id="record">{packed_json(shortened(record))}</script>\n'
            f'<script type="module">\n{script}\n</script>'
        ),
    )


def meaning(record: ComparisonRecord) -> str:
    """What the verdict means: the first layer that diverges, as a link to its figures and with its picture, and the
    known mistake that makes the same difference.
    """
    sides = f"{record.candidate.label} beside {record.reference.label}, on {record.images.label}"
    parts = [f"<p>{escape(sides)}.</p>"]
    if (first := record.first_failure) is not None:
        link = f'<a id="first-failure" href="#detail" data-layer="{escape(first)}">{escape(first)}</a>'
        parts.append(f"<p>First layer that diverges: {link}</p>")
        for each in record.explanations:
            if each.explains:
                said = f"Explained by {each.change} ({each.summary}): with it in the {each.side}, all layers agree."
                parts.append(f'<p class="mistake">{escape(said)}</p>')
        parts.append('<figure id="first-picture"></figure>')
    return "\n".join(parts)


def shortened(record: ComparisonRecord) -> dict[str, Any]:
    """The record as the page has it: figures and heat maps hardly more exact than they are shown."""
    plain = record.plain()
    heats = [row.pictures.heat if row.pictures else None for row in record.rows]
    cells = sum(len(heat.values) * len(heat.values[0]) for heat in heats if heat)
    side = max(1, math.ceil(math.sqrt(cells / MOST_CELLS)))  # of the squares of cells that become one
    for row, heat in zip(plain["rows"], heats, strict=True):
        row["checks"] = _short(row["checks"])
        if heat:
            row["heat"] = _packed(heat, side)
    return plain


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        # What is shown of a cosine is how much less than one it is.
        return {name: each if name == "cosine" else _short(each) for name, each in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _packed(heat: Heat, side: int) -> dict[str, Any]:
    """A heat map as a byte a cell, in steps of its largest figure; of every square of `side` cells the largest."""
    values = np.array([[math.nan if each is None else each for each in line] for line in heat.values], np.float64)
    if side > 1:
        tall, wide = (-(-length // side) for length in values.shape)
        padding = [(0, tall * side - values.shape[0]), (0, wide * side - values.shape[1])]
        padded = np.pad(values, padding, mode="edge")
        values = padded.reshape(tall, side, wide, side).max((1, 3))  # what is not finite stays so
    finite = np.isfinite(values)
    most = float(values[finite].max()) if finite.any() else 0.0
    steps: NDArray[np.uint8] = np.full(values.shape, NOT_FINITE, np.uint8)
    steps[finite] = np.rint(values[finite] / (most or 1.0) * STEPS)
    height, width = steps.shape
    encoded = base64.b64encode(steps.tobytes()).decode("ascii")
    return {"check": heat.check, "most": most, "height": height, "width": width, "cells": encoded}


def explanations(record: ComparisonRecord) -> str:
    """What single changes to one side do to the first failure, as a section, with the others folded below it."""
    heads = ("change", "what it is", "made to", "from layer", "explains the difference", "first failure with it")
    lines = []
    for change in record.explanations:
        after = change.first_failure_after
        told = (change.side, change.from_layer, "yes" if change.explains else "in part", after or "none")
        lines.append([cell(change.change), cell(change.summary, "text"), *map(cell, told)])
    listed = f"\n{table(heads, lines, 'explanations')}" if lines else ""
    return (
        '<section aria-labelledby="explanations-title"><h2 id="explanations-title">What would explain it</h2>\n'
        f"{_how(record)}{listed}{other_mistakes(record)}</section>"
    )


def _how(record: ComparisonRecord) -> str:
    """What was done, where anything was: not so where no known mistake could be the cause."""
    if not record.explanations and all(each.effect == NOT_TRIED for each in record.tried):
        return ""
    said = "Each known mistake that could be the cause was made alone, and the comparison run again"
    return f"<p>{said}{'; the others are below' if unhelpful(record) else ''}.</p>"


def other_mistakes(record: ComparisonRecord) -> str:
    """The known mistakes that are no explanation, folded: what each did, or why it was not tried."""
    rows = unhelpful(record)
    if not rows:
        return ""
    heads = ("change", "what it is", "made to", "effect", "first difference with it", "error there")
    lines = []
    for row in rows:
        error = "not comparable" if row.error is None else f"{row.error:.1e}"
        told = (
            (cell("-"), cell(f"{NOT_TRIED}: {row.reason}", "text"), cell("-"), cell("-"))
            if row.effect == NOT_TRIED
            else (cell(row.side), cell(row.effect), cell(row.layer), cell(error, "number"))
        )
        lines.append([cell(row.change), cell(row.summary, "text"), *told])
    meaning = (
        "<p>The effect is on the first difference: helps less where it moves on, but further with another change; "
        "worse where it moves back; smaller or worse where its error changes by more than a hundredth. "
        "The error is max|a-b|/max|b|.</p>"
    )
    said = f"<p>{escape(excluded_line(record))}</p>"
    listed = table(heads, lines, "excluded")
    return f"\n{said}<details><summary>The other known mistakes</summary>{meaning}{listed}</details>"


def weights(record: ComparisonRecord) -> str:
    """Every tensor beside the checkpoint's by name, and the weights that the images do not reach, as a section; empty
    where tensors were not compared."""
    if record.tensors is None:
        return ""
    tensors = record.tensors.plain()
    label, unreached = "not reached by the images", [each.plain() for each in record.unexercised]
    shown = {**tensors, "differ": tensors["differ"] or "none"} | ({} if unreached else {label: "none"})
    folded = (
        f"<details><summary>{len(unreached)} kernels have weights {label}</summary>{definitions({label: unreached})}"
    )
    folded = f"{folded}</details>" if unreached else ""
    return (
        '<section aria-labelledby="weights-title"><h2 id="weights-title">Weights by name</h2>\n'
        f'<div id="weights">{definitions(shown)}{folded}</div></section>'
    )
