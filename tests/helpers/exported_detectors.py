"""Detectors exported by the command line from a tiny checkpoint, at 64x64, of pixels."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from effconv.cli import main
from kept_runs import SWISH

MODEL = ("--model", SWISH / "config.json", "--ckpt", SWISH, "--size", "64x64")


def run(*words: object) -> Result:
    """`effconv` with these words, in this process."""
    return CliRunner().invoke(main, [str(word) for word in words])


def export(folder: Path, kind: str) -> Path:
    """`folder` with an exported detector, `d.KIND`, and what the command said of it, `d.json`."""
    words = ("export", kind, *MODEL, "--input", "uint8", "--min-score", 0.1, "-o", folder / f"d.{kind}", "--json")
    result = run(*words)
    assert result.exit_code == 0, result.output
    (folder / "d.json").write_text(result.stdout)
    return folder


def checked(folder: Path) -> dict[str, Any]:
    """What the command said, whose check found the model's objects, all of them."""
    record: dict[str, Any] = json.loads((folder / "d.json").read_text())
    check = record["check"]
    assert (check["ok"], check["images"], check["missing"], check["added"]) == (True, 4, 0, 0)
    assert check["objects"] > 50
    return record
