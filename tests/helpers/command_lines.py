"""Commands run in this process, what is expected of a refusal, and a list of them all."""

from pathlib import Path

import click
from click.testing import CliRunner, Result

from effconv.cli import main


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refuse(*arguments: object, lines: int = 2) -> str:
    """Run a command on bad input: status 2, nothing on stdout, at most `lines` lines on stderr, which are returned."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) <= lines
    assert result.stderr.startswith("effconv: ")
    return result.stderr


def convert(folder: Path, output: Path, *options: object) -> Result:
    return run("tf2torch", "--model", folder / "config.json", "--ckpt", folder, "-o", output, *options)


def every_command() -> list[tuple[str, click.Command]]:
    """(name as typed, command) of the program, its groups and all that they hold."""
    found: list[tuple[str, click.Command]] = [("effconv", main)]
    for name, command in found:
        if isinstance(command, click.Group):
            found += [(f"{name} {each}", command.commands[each]) for each in command.commands]
    return found
