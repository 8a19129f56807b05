"""`effconv parity --engine FILE` of a file that `effconv export` wrote."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from .options import command_line, print_json
from .parity_subject import releases


def parity_of_file(path: Path, chosen: dict[str, Any], generation: str | None, as_json: bool) -> NoReturn:
    """Print how a file or folder compares; exit with status 1 where it is not the model. `chosen` are of `Choice`."""
    from ..parity.comparison.subject import Choice
    from ..parity.exporting import file_parity
    from ..parity.rendering.terminal import wrapped_text

    choice = Choice(**chosen)
    record = file_parity.compare_exported(choice, path, releases(generation, choice.verify), command_line())
    if as_json:
        print_json(record.plain())
    else:
        click.echo(wrapped_text(file_parity.file_parity_lines(record)))
    sys.exit(0 if record.ok else 1)
