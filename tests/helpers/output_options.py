"""Every option of every command that says where something is written."""

from collections.abc import Iterator

import click
from command_lines import every_command

WRITING = {"--output", "--record", "--report", "--detections", "--cache", "--out", "--write-config"}
NOT_YET = {("torch2tf", "--output"), ("convert", "--output")}  # or a prefix, of which several files are made


def outputs() -> Iterator[tuple[str, click.Command, click.Parameter]]:
    """(name of the command, command, parameter) of every option that says where something is written."""
    for name, command in every_command():
        short = name.removeprefix("effconv").strip()
        yield from ((short, command, each) for each in command.params if WRITING & set(each.opts))


ALL = [each for each in outputs() if (each[0], each[2].opts[-1]) not in NOT_YET]
