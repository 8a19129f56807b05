"""The terminal that results are printed on."""

from rich.console import Console

TABLE_WIDTH = 92


def wide_console() -> Console:
    """The terminal; where that is none or narrow, wide enough that no figure is cut off."""
    return Console(width=max(Console().width, TABLE_WIDTH))


def print_line(console: Console, text: str) -> None:
    """One line, however long."""
    console.print(text, soft_wrap=True, highlight=False)
