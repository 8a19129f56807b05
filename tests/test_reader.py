"""What a reader of the README waits for was measured with the README's own commands, and they did what they promise."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def program(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "tools")
    monkeypatch.delitem(sys.modules, "record_reader", raising=False)
    return importlib.import_module("record_reader")


def test_every_step_is_a_line_of_the_readme(program: ModuleType) -> None:
    written = program.readme_commands()
    assert len(written) > 10
    assert [step.line for step in program.STEPS if step.line not in written] == []


def test_the_record_is_of_these_steps_and_each_ended_as_it_should(program: ModuleType, repository: Path) -> None:
    rows = json.loads((repository / "results" / "measured" / "reader.json").read_text())["rows"]
    assert [(row["line"], row["added"]) for row in rows] == [(step.line, step.added) for step in program.STEPS]
    for row, step in zip(rows, program.STEPS, strict=True):
        assert row["status"] == step.status, row["line"]
        assert step.said in row["said"], row["line"]
