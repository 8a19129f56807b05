"""`effconv parity --engine FILE` of a file that `effconv export` wrote."""

import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from .options import fetch_release, print_json


def parity_of_file(path: Path, chosen: dict[str, Any], generation: str | None, as_json: bool) -> NoReturn:
    """Print how a file or folder compares; exit with status 1 where it is not the model. `chosen` are of `Choice`."""
    from ..parity.comparison.subject import Choice
    from ..parity.exporting import file_parity

    choice = Choice(**chosen)

    def fetch(model: str) -> Path:
        return fetch_release(model, generation, choice.verify)

    record = file_parity.compare_exported(choice, path, fetch, shlex.join(["effconv", *sys.argv[1:]]))
    if as_json:
        print_json(record.plain())
    else:
        click.echo("\n".join(file_parity.file_parity_lines(record)))
    sys.exit(0 if record.ok else 1)
