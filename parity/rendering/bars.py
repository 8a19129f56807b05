"""Bars as SVG, to be part of a page: no script, no library."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

ROW, BAR = 20, 14  # pixels of a row and of the bar in it
NAME_WIDTH, BAR_WIDTH, FIGURE_WIDTH = 190, 320, 130
NAME_LENGTH = 26  # characters of a name for which there is room
COLOUR = "#1f5fa8"


class Bar(NamedTuple):
    """A bar's name, its length in the unit of all of them, and the text behind it."""

    name: str
    length: float
    figure: str


def bars(title: str, rows: Sequence[Bar], longest: float | None = None) -> str:
    """Horizontal bars, one a row; `longest` is what fills the width, the longest bar when None."""
    full = longest or max((row.length for row in rows), default=0) or 1
    width, height = NAME_WIDTH + BAR_WIDTH + FIGURE_WIDTH, ROW * len(rows)
    drawn = "".join(_row(row, place * ROW, full) for place, row in enumerate(rows))
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}" font-size="12">{drawn}</svg></figure>'
    )


def _row(row: Bar, top: int, full: float) -> str:
    name = row.name if len(row.name) <= NAME_LENGTH else f"{row.name[: NAME_LENGTH - 1]}…"
    length = max(0.0, min(1.0, row.length / full)) * BAR_WIDTH
    middle = top + ROW // 2 + 4  # of the text, by its baseline
    return (
        f'<text x="{NAME_WIDTH - 8}" y="{middle}" text-anchor="end">{escape(name)}'
        f"<title>{escape(row.name)}</title></text>"
        f'<rect x="{NAME_WIDTH}" y="{top + (ROW - BAR) // 2}" width="{length:.1f}" height="{BAR}" fill="{COLOUR}"/>'
        f'<text x="{NAME_WIDTH + length + 6:.1f}" y="{middle}">{escape(row.figure)}</text>'
    )
