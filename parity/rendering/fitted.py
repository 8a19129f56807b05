"""Text with Markdown tables as a terminal shows it: columns in line, cells of several lines where there is no room."""

import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence

from .terminal import table_width, wrapped

GAP = "  "  # between columns
EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(?![\s*])(.*?)(?<![\s*])\1(?![\w*])")  # 2*3*4 has none
RULE = re.compile(r"\|[ :]*-")  # the second line of every table
BETWEEN = re.compile(r"(?<!\\)\|")  # an escaped one is text
FIGURE = re.compile(r"([-+]?[\d.,]+(e[-+]?\d+)?( \S+)?|-|)$")  # a number with its unit, or none

Row = Sequence[str]


def fitted(text: str, width: int | None = None) -> str:
    """`text` with its tables within `width` columns (the terminal's, 80 where there is none), other lines wrapped.

    A word that is longer than there is room for stays whole.
    """
    lines: list[str] = []
    for is_table, grouped in itertools.groupby(text.split("\n"), lambda line: line.startswith("|")):
        group = [*grouped]
        if is_table and _is_table(group):
            head, _, *rows = [_cells(line) for line in group]
            lines += _table(head, rows, width or table_width())
        else:
            lines += [wrapped(EMPHASIS.sub(r"\2", line), 2, width) for line in group]
    return "\n".join(lines)


def _is_table(lines: Sequence[str]) -> bool:
    """Whether lines that begin with a bar are a table: a rule below the heading, and as many cells in every row."""
    whole = all(line.rstrip().endswith("|") for line in lines)
    return whole and len(lines) > 1 and bool(RULE.match(lines[1])) and len({len(_cells(line)) for line in lines}) == 1


def _cells(line: str) -> list[str]:
    """The cells of a row of Markdown, without its marks."""
    inside = BETWEEN.split(line)[1:-1]
    return [EMPHASIS.sub(r"\2", cell.replace("\\|", "|")).strip() for cell in inside]


def _table(head: Row, rows: Sequence[Row], width: int) -> Iterator[str]:
    columns = [*zip(head, *rows, strict=True)]
    widths = _widths(columns, width - len(GAP) * (len(columns) - 1))
    # Figures end below each other; the heading does as its column does.
    right = [all(map(FIGURE.match, column[1:])) for column in columns]
    yield from _lines(head, widths, right)
    yield GAP.join("-" * each for each in widths)
    for row in rows:
        yield from _lines(row, widths, right)


def _widths(columns: Sequence[Row], room: int) -> list[int]:
    """As wide as each column's longest cell, and where there is no room for that, narrower, the widest first; a word
    is never cut.
    """
    widths = [max(map(len, column)) for column in columns]
    least = [max((len(word) for cell in column for word in cell.split()), default=0) for column in columns]
    while sum(widths) > room:
        narrower = [place for place, wide in enumerate(widths) if wide > least[place]]
        if not narrower:
            break
        widths[max(narrower, key=lambda place: widths[place])] -= 1
    return widths


def _lines(row: Row, widths: Sequence[int], right: Sequence[bool]) -> Iterator[str]:
    """A row as lines: every cell wrapped in its column."""
    cells = [textwrap.wrap(cell, max(wide, 1), break_on_hyphens=False) for cell, wide in zip(row, widths, strict=True)]
    for parts in itertools.zip_longest(*cells, fillvalue=""):
        aligned = (
            part.rjust(wide) if to_right else part.ljust(wide)
            for part, wide, to_right in zip(parts, widths, right, strict=True)
        )
        yield GAP.join(aligned).rstrip()
