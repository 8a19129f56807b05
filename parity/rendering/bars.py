"""Bars of HTML, to be part of a page: no script, no library, and text of one size however wide the page."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Bar(NamedTuple):
    """A bar's name, its length in the unit of all of them, and the text behind it."""

    name: str
    length: float
    figure: str


def bars(title: str, rows: Sequence[Bar], longest: float | None = None) -> str:
    """Horizontal bars, one a row; `longest` is what fills the width, the longest bar when None."""
    full = longest or max((row.length for row in rows), default=0) or 1
    drawn = "".join(
        f'<span class="name">{escape(row.name)}</span><span><i style="width:{_share(row.length / full)}"></i></span>'
        f'<span class="figure">{escape(row.figure)}</span>'
        for row in rows
    )
    return f'<figure><figcaption>{escape(title)}</figcaption><div class="bars">{drawn}</div></figure>'


def _share(part: float) -> str:
    return f"{100 * max(0.0, min(1.0, part)):.1f}%"
