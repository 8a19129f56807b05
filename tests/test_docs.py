"""Documentation that is generated must be what its sources say."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from scripts import load_script


@pytest.fixture(scope="module")
def renderer(repository: Path) -> ModuleType:
    """tools/render_docs.py as a module."""
    return load_script(repository / "tools" / "render_docs.py")


def test_command_reference_is_what_help_says(renderer: ModuleType, repository: Path) -> None:
    assert (repository / "docs" / "cli.md").read_text() == renderer.cli_reference(), "`make docs` renders it"


def test_readme_tables_are_what_the_records_say(renderer: ModuleType, repository: Path) -> None:
    text = (repository / "README.md").read_text()
    assert text == renderer.readme(text), "`make docs` renders them"
    assert text.count("<!-- end ") == 3


@pytest.mark.parametrize("name", ["layers", "convert-d0", "convert-d7x"])
def test_records_say_where_they_come_from(name: str, repository: Path) -> None:
    record = json.loads((repository / "results" / "measured" / f"{name}.json").read_text())
    assert {"what", "command", "provenance", "rows"} <= set(record)
    provenance = record["provenance"]
    assert re.fullmatch(r"[0-9a-f]{40}", provenance["git_commit"]), "measured on a commit, not on uncommitted changes"
    assert provenance["versions"]["torch"]
    assert provenance["device"] == "cpu"


def test_promises_are_kept_by_the_records(repository: Path) -> None:
    measured = repository / "results" / "measured"
    ratios = {
        (model, row["what"]): row["ratio"]
        for model in ("d0", "d7x")
        for row in json.loads((measured / f"convert-{model}.json").read_text())["rows"]
    }
    assert ratios["d0", "whole command"] >= 5
    assert ratios["d0", "peak memory"] <= 0.25
    assert ratios["d0", "read all, verified"] >= 2
    assert ratios["d7x", "peak memory / weights kept"] < 2.2
    layers = json.loads((measured / "layers.json").read_text())["rows"]
    assert [(row["model"], row["size"]) for row in layers] == [
        ("tiny-lite", "128x128"),
        ("tiny-sum8", "256x256"),
        ("tiny-sum8", "256x320"),
        ("tiny-swish", "128x160"),
        ("efficientdet-d0", "384x640"),
        ("efficientdet-d0", "512x512"),
        ("efficientdet-lite0", "320x320"),
    ]
    assert all(row["worst_error"] <= row["limit"] and row["layers"] == row["layers_within_limit"] for row in layers)


def test_readme_names_only_commands_and_files_that_exist(repository: Path) -> None:
    from effconv.cli import main

    text = (repository / "README.md").read_text()
    commands = set(re.findall(r"\beffconv ([a-z0-9]+)(?= )", text)) - {"reads"}
    assert commands - set(main.commands) <= {"accounts", "recognises"}
    for target in re.findall(r"`((?:tests|docs|parity|results)/[\w./-]+)`", text):
        assert (repository / target).exists(), target
    makefile = (repository / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile
