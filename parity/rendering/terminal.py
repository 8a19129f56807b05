"""The terminal that results are printed on.

Tables fit its width, or 80 columns where the output is no terminal. Sentences are wrapped between words on a terminal,
or where COLUMNS says how wide; elsewhere each stays on one line, so that programs find it.
"""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LEAST_WIDTH = 80  # columns that every table needs, on a narrower terminal too


def table_width() -> int:
    """Columns that a table may take."""
    return max(shutil.get_terminal_size((LEAST_WIDTH, 24)).columns, LEAST_WIDTH)


def wide_console() -> "Console":
    """Where tables are printed; colours are for terminals alone, and NO_COLOR switches them off."""
    from rich.console import Console

    return Console(width=table_width())


def keeps_lines(console: "Console | None" = None) -> bool:
    """Whether sentences stay on one line each: the output is no terminal, and nobody said how wide it is."""
    terminal = console.is_terminal if console else sys.stdout.isatty()
    return not terminal and not os.environ.get("COLUMNS")


def print_line(console: "Console", text: str) -> None:
    """One line of text, wrapped between words where it is read on a terminal."""
    console.print(text, soft_wrap=keeps_lines(console), highlight=False)


def wrapped(line: str, hanging: int = 2, width: int | None = None) -> str:
    """A line as several of at most `width` columns, the later ones `hanging` further in; paths are never cut.

    Without a width it is the terminal's, if there is one. Rows of Markdown stay as they are.
    """
    if line.startswith("|") or (width is None and keeps_lines()):
        return line
    indent = " " * (len(line) - len(line.lstrip()) + hanging)
    columns = width or table_width()
    return textwrap.fill(
        line,
        columns,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )


def wrapped_text(lines: Iterable[str]) -> str:
    """Lines of text, each wrapped."""
    return "\n".join(wrapped(each) for line in lines for each in line.split("\n"))
