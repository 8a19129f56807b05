"""The layer-by-layer comparison as one HTML file that needs no network: curves, a table, every layer's figures."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from string import Template

from ...convert.output import replacing
from ...convert.output_kinds import PAGE_MARK
from ..rendering.html import asset, definitions, plain, plotly_script, script_json
from .records import ComparisonRecord, ExplanationRow, LayerRow

# One script, in this order: the last file uses the functions of the others.
SCRIPTS = ("table.js", "growth.js", "detail.js", "page.js")
HEAT_DIGITS = 3  # of a cell's figure, as shown; a thousand cells a layer are most of the file


def write_page(record: ComparisonRecord, path: Path) -> None:
    """Write the page for one comparison to `path`; nothing is left there when it cannot be written."""
    page = render_page(record)
    with replacing(path) as (temporary,):
        temporary.write_text(page, encoding="utf-8")


def render_page(record: ComparisonRecord) -> str:
    """The page as text: prose and short tables are HTML already, the script draws the rest from the record."""
    template = Template(asset("page.html"))
    # One pass over the template: a `$` in a value stays what it is.
    return template.substitute(
        mark=PAGE_MARK,
        title=escape(f"{record.model}: layer by layer"),
        model=escape(record.model),
        style=asset("page.css"),
        verdict=verdict(record),
        sides=definitions(
            {
                "reference": record.reference.plain(),
                "candidate": record.candidate.plain(),
                "images": record.images.plain(),
            }
        ),
        explanations=explanations(record.explanations) if record.explanations else "",
        backward=asset("backward.html") if record.backward else "",
        weights=weights(record),
        provenance=definitions(dict(record.provenance)),
        plotly=plotly_script(),
        record=script_json(replace(record, rows=tuple(shortened(row) for row in record.rows)).plain()),
        script="\n".join(asset(name) for name in SCRIPTS),
    )


def shortened(row: LayerRow) -> LayerRow:
    """The row, its heat map with as many digits as the page shows."""
    if row.pictures is None or row.pictures.heat is None:
        return row
    heat = row.pictures.heat
    cells = (tuple(None if cell is None else float(f"{cell:.{HEAT_DIGITS}g}") for cell in line) for line in heat.values)
    return replace(row, pictures=replace(row.pictures, heat=replace(heat, values=tuple(cells))))


def verdict(record: ComparisonRecord) -> str:
    """The outcome in one sentence, and the first layer that diverges as a link to its figures."""
    state = "ok" if record.ok else "failed"
    parts = [f'<p id="verdict" class="{state}" data-ok="{state}">{escape(record.verdict)}</p>']
    if (first := record.first_failure) is not None:
        link = f'<a id="first-failure" href="#detail" data-layer="{escape(first)}">{escape(first)}</a>'
        parts.append(f"<p>First layer that diverges: {link}</p>")
    return "\n".join(parts)


def explanations(changes: Sequence[ExplanationRow]) -> str:
    """What single changes to one side do to the first failure, as a section."""
    heads = ("change", "what it is", "made to", "from layer", "explains the difference", "first failure with it")
    lines = []
    for change in changes:
        answer = "yes" if change.explains else "no"
        cells = (change.change, change.summary, change.side, change.from_layer, answer)
        after = change.first_failure_after
        row = "".join(f"<td>{plain(cell)}</td>" for cell in (*cells, "none" if after is None else after))
        lines.append(f'<tr class="{answer}">{row}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<section aria-labelledby="explanations-title"><h2 id="explanations-title">What would explain it</h2>\n'
        "<p>Each change was made alone, and the comparison run again.</p>\n"
        f'<div class="scroll"><table id="explanations"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def weights(record: ComparisonRecord) -> str:
    """Every tensor beside the checkpoint's by name, and the weights that the images do not reach, as a section; empty
    where tensors were not compared."""
    if record.tensors is None:
        return ""
    tensors = record.tensors.plain()
    shown = {
        **tensors,
        "differ": tensors["differ"] or "none",
        "not reached by the images": [each.plain() for each in record.unexercised] or "none",
    }
    return (
        '<section aria-labelledby="weights-title"><h2 id="weights-title">Weights by name</h2>\n'
        f'<div id="weights">{definitions(shown)}</div></section>'
    )
