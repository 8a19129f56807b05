"""Render what is generated in the documentation: docs/cli.md from --help, the README's tables from results/measured/.

    python tools/render_docs.py

A test fails when either differs from what this would write.
"""

import json
import re
from pathlib import Path

import click
from click.testing import CliRunner

from effconv.cli import main
from effconv.parity.report import conversion_table, layers_table

REPOSITORY = Path(__file__).resolve().parent.parent
MEASURED = REPOSITORY / "results" / "measured"
WIDTH = 110


def cli_reference() -> str:
    """Every command's --help, as Markdown."""
    parts = ["# Command line\n\nGenerated from `--help` by `tools/render_docs.py`.\n"]
    for name, command in _commands("effconv", main):
        arguments = name.split()[1:]
        result = CliRunner().invoke(main, [*arguments, "--help"], prog_name="effconv", terminal_width=WIDTH)
        parts.append(f"## {name}\n\n```\n{result.output.rstrip()}\n```\n")
        assert command.help, f"{name} is not documented"
    return "\n".join(parts)


def _commands(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    found = [(name, command)]
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            found += _commands(f"{name} {child}", command.commands[child])
    return found


def readme(text: str) -> str:
    """The README with every generated table replaced by what the records say."""
    tables = {
        "layers": layers_table(json.loads((MEASURED / "layers.json").read_text())),
        "convert-d0": conversion_table(json.loads((MEASURED / "convert-d0.json").read_text())),
        "convert-d7x": conversion_table(json.loads((MEASURED / "convert-d7x.json").read_text())),
    }
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
        text, count = re.subn(pattern, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)
        assert count == 1, f"README.md has {count} places for the table {name}, expected 1"
    return text


if __name__ == "__main__":
    (REPOSITORY / "docs" / "cli.md").write_text(cli_reference())
    path = REPOSITORY / "README.md"
    path.write_text(readme(path.read_text()))
