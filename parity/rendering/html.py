"""What every HTML page is made of: the one template, its style sheet and parts on disk, nested values as lists."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from ...convert.output import replacing
from ...convert.output_kinds import PAGE_MARK
from ...strict_json import json_text

ASSETS = resources.files(__package__.partition(".")[0]) / "parity" / "rendering" / "assets"

# How a page's banner looks, by what was found: it holds, it does not, or neither was asked or could be proven.
HOLDS, FAILS, OPEN = "ok", "failed", "open"


class Page(NamedTuple):
    """A page's parts. `title`, `heading` and `verdict` are text, `explanation` and `content` HTML."""

    title: str
    heading: str
    verdict: str  # in one sentence
    state: str  # HOLDS, FAILS or OPEN
    explanation: str  # what the verdict means, beside it in the banner
    content: str
    provenance: Mapping[str, Any]
    scripts: str = ""  # elements; a page without any may run none


def write_page(page: Page, path: Path) -> None:
    """Write a page to `path`; nothing is left there when it cannot be written. Raises OutputError."""
    text = render(page)
    with replacing(path) as (temporary,):
        temporary.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")


def render(page: Page) -> str:
    """A page as text, which needs no other file and no network."""
    # One pass over the template: a `$` in a value stays what it is.
    return Template(asset("page.html")).substitute(
        mark=PAGE_MARK,
        scripts="'unsafe-inline'" if page.scripts else "'none'",
        title=escape(page.title),
        style=asset("page.css"),
        heading=escape(page.heading),
        state=page.state,
        verdict=escape(page.verdict),
        explanation=page.explanation,
        content=page.content,
        provenance=definitions(page.provenance),
        script=page.scripts,
    )


def asset(name: str) -> str:
    """The text of one file that is part of a page."""
    return (ASSETS / name).read_text(encoding="utf-8")


def packed_json(value: Any) -> str:
    """JSON as a page's script unpacks it: compressed (zlib), in base64. No text in it can be taken for HTML."""
    return base64.b64encode(zlib.compress(json_text(value, separators=(",", ":")).encode(), 9)).decode("ascii")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], name: str = "") -> str:
    """A table that scrolls where it is wider than the page. Titles are text, cells are HTML (`cell`)."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    named = f' id="{name}"' if name else ""
    return f'<div class="scroll"><table{named}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def cell(value: object, kind: str = "") -> str:
    """A cell of a table: text, with a class of the style sheet ("number" is to the right, "text" may be long)."""
    return f'<td class="{kind}">{escape(str(value))}</td>' if kind else f"<td>{escape(str(value))}</td>"


def definitions(values: Mapping[str, Any]) -> str:
    """Nested plain values as a list of names and what they are."""
    items = (f"<dt>{escape(name)}</dt><dd>{nested(value)}</dd>" for name, value in values.items())
    return f"<dl>{''.join(items)}</dl>"


def nested(value: Any) -> str:
    """One value of a definition: a list of its own, a line of plain values, or text."""
    if isinstance(value, Mapping):
        return definitions(value)
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return f"<ul>{''.join(f'<li>{nested(item)}</li>' for item in value)}</ul>"
    return ", ".join(plain(item) for item in value) if isinstance(value, list) else plain(value)


def plain(value: Any) -> str:
    """A plain value as the record's JSON would have it, text without quotes."""
    return escape(value if isinstance(value, str) else json_text(value))
