"""The script for a machine with a GPU: effconv takes its command lines, and it goes on after a failing step."""

import os
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from effconv.cli import main

SCRIPT = Path("tools") / "record_gpu.sh"


def parse(line: str) -> None:
    """Raises what click raises for an option or a value that the command does not have."""
    words = shlex.split(line.replace("$engine", "fast").replace("$folder", "records").replace("$coco", "coco"))
    command: click.Command = main
    words = words[words.index("effconv") + 1 :]
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(str(command.name), words)


def test_every_command_line_is_taken(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for line in (repository / SCRIPT).read_text().splitlines() if line.strip().startswith("step ")]
    assert len(lines) == 10
    for line in lines:
        parse(line)
    with pytest.raises(click.NoSuchOption):
        parse(lines[0].replace("--device", "--devices"))


def test_a_failing_step_is_named_and_the_others_are_made(repository: Path, tmp_path: Path) -> None:
    """With an effconv that fails for one model, and no GPU."""
    subprocess.run(["bash", "-n", str(repository / SCRIPT)], check=True)
    effconv = tmp_path / "effconv"
    effconv.write_text('#!/bin/sh\necho "$@"\ncase "$*" in *"--model d1"*) exit 3;; esac\n')
    effconv.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ["bash", str(repository / SCRIPT), str(tmp_path / "records"), "coco"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "failed: d1-32-bfloat16 (status 3)\n" in done.stderr
    assert "d0-" not in done.stderr
    assert "--engine fast" in (tmp_path / "records" / "eval-fast.txt").read_text()
