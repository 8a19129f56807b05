"""The script for a machine with a GPU: effconv takes its command lines, it goes on after a failing piece, and later."""

import os
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from effconv.cli import main

SCRIPT = Path("tools") / "record_gpu.sh"
# Notes its words, and prints a record; fails for one model in one precision.
EFFCONV = """#!/bin/sh
echo "$@" >> "$CALLS"
echo "{}"
case "$*" in *"--model d1"*tf32*) exit 3;; esac
"""


def parse(line: str) -> None:
    """Raises what click raises for an option or a value that the command does not have."""
    words = shlex.split(line)
    command: click.Command = main
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(str(command.name), words)


@pytest.fixture(scope="module")
def runs(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[str], str, Path]]:
    """(calls of effconv, what was said, the folder) of two runs with a stand-in for effconv, the second going on."""
    folder = tmp_path_factory.mktemp("gpu")
    subprocess.run(["bash", "-n", str(repository / SCRIPT)], check=True)
    stand_in, calls = folder / "effconv", folder / "calls"
    stand_in.write_text(EFFCONV)
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls)}
    found = []
    for _ in range(2):
        calls.write_text("")
        words = ["bash", str(repository / SCRIPT), str(folder / "records")]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=repository)
        assert done.returncode == 1
        found.append((calls.read_text().splitlines(), done.stderr, folder / "records"))
    return found


def test_every_command_line_is_taken(runs: list[tuple[list[str], str, Path]]) -> None:
    lines, _, _ = runs[0]
    assert len(lines) == len(set(lines)) == 3 + 1 + 2 + 3 * 5 * 3
    for line in lines:
        parse(line)
    with pytest.raises(click.NoSuchOption):
        parse(lines[0].replace("--device", "--devices"))


def test_a_failing_piece_is_named_and_the_others_are_made(runs: list[tuple[list[str], str, Path]]) -> None:
    _, said, folder = runs[0]
    failed = [line for line in said.splitlines() if "no nvidia-smi" not in line]
    assert "failed: training-d1-32-tf32 (status 3)" in failed
    assert len(failed) == 3 * 2
    assert "compiled-d5-8-tf32" not in said
    assert (folder / "compiled-d5-8-tf32.json").read_text() == "{}\n"
    assert not (folder / "training-d1-32-tf32.json").exists()


def test_a_second_run_makes_what_is_left(runs: list[tuple[list[str], str, Path]]) -> None:
    first, again = runs[0][0], runs[1][0]
    assert again == [line for line in first if line.startswith("shapes") or ("--model d1" in line and "tf32" in line)]
