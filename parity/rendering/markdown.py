"""Markdown, for the documentation and for reports: tables."""

from collections.abc import Iterable, Sequence


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a cell per name of `heading` in every row. A `|` in a cell stays text.

    Raises ValueError for a row of another length, whose figures would stand under other names.
    """
    lines = [_line(heading), "|---" * len(heading) + "|"]
    for row in rows:
        if len(row) != len(heading):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(heading)}: {row}")
        lines.append(_line(row))
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    texts = (str(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"
