"""Markdown, for the documentation and for reports: tables, text, and files of it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...convert.output import replacing

# How UTF-8 has the bytes of a file's name that are none: as `\udce9`, which says which byte it is.
UNENCODABLE = "backslashreplace"


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


def markdown_text(text: str) -> str:
    """Text as Markdown that shows it as it is, in one line: names of files are anybody's."""
    return re.sub(r"[\\`*_<>\[\]&~]", r"\\\g<0>", " ".join(text.splitlines()))


def write_text_report(path: Path, text: str) -> None:
    """Write a report in Markdown. Raises OutputError when it cannot be written."""
    with replacing(path) as (file,):
        file.write_text(text, encoding="utf-8", errors=UNENCODABLE)
