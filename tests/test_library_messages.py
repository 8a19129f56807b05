"""The library speaks of parameters, and the command line of its options, which it alone knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.commands import inspect as inspecting
from effconv.errors import EffconvError

LIBRARY = ("convert", "effdet_torch", "parity", "loading.py", "errors.py", "progress.py")
OPTION = re.compile(r"(?<![\w-])--[a-z]")
# Command lines, which are run or recorded, and no advice to anyone.
COMMAND_LINE = re.compile(r"^--[a-z-]+$|^effconv |^ --rounds $|; pip install ")


def messages(file: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string but docstrings."""
    tree = ast.parse(file.read_text())
    statements = [each for each in ast.walk(tree) if isinstance(each, ast.Expr)]
    alone = {id(each.value) for each in statements if isinstance(each.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.lineno, node.value


def test_the_library_names_no_option(repository: Path) -> None:
    files = [file for name in LIBRARY for file in sorted([repository / name, *(repository / name).rglob("*.py")])]
    named = [
        f"{file.relative_to(repository)}:{line}: {text}"
        for file in files
        if file.is_file()
        for line, text in messages(file)
        if OPTION.search(text) and not COMMAND_LINE.search(text)
    ]
    assert len(files) > 150
    assert named == []


@pytest.mark.parametrize(
    ("command", "parameters", "expected"),
    [
        ("inspect", {"verify": False}, " (--no-verify)"),
        ("inspect", {"tensors": True, "model": "d0"}, " (--tensors)"),  # it has no --model
        ("inspect", {}, ""),
    ],
)
def test_a_command_adds_its_own_options(
    command: str, parameters: dict[str, str | bool | None], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EffconvError("damaged", parameters=parameters)

    monkeypatch.setattr(inspecting, "_found", fail)
    result = CliRunner().invoke(main, [command, "x.pth"])
    assert (result.exit_code, result.stderr) == (2, f"effconv: damaged{expected}\n")


def test_options_of_a_command_within_a_group_are_added(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"")
    export = ["export", "onnx", "--model", "no-official-model"]
    assert CliRunner().invoke(main, export).exit_code == 2
    result = CliRunner().invoke(main, ["export", "onnx", "--ckpt", str(tmp_path / "none"), "--weights", "raw"])
    assert result.exit_code == 2
    assert result.stderr.endswith("(--model d0)\n")


def test_a_parameter_by_another_name_and_with_a_value(tmp_path: Path) -> None:
    evaluation = ["eval", "--coco", str(tmp_path)]
    assert CliRunner().invoke(main, evaluation).stderr == "effconv: name the model to evaluate (--model d0)\n"
    found = CliRunner().invoke(main, [*evaluation, "--model", "d0", "--resume"]).stderr
    assert found == "effconv: name the file of detections of the run to go on with (--resume, --detections)\n"
