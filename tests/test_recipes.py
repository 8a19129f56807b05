"""Every command of docs/recipes/ is run, in order, and prints the lines that the page shows.

What a reader types is typed here, but for the options that `MORE` appends to keep the test short.
"""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from effconv.cli import main
from recipe_pages import blocks, prepare, stand_in_for_d0, typed_in_prose

RECIPES = Path(__file__).resolve().parent.parent / "docs" / "recipes"
TENSORFLOW = ("deploy", "google")  # pages with a command that needs TensorFlow
PAGES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.tf] if path.stem in TENSORFLOW else [])
    for path in sorted(RECIPES.glob("*.md"))
]
MORE = {  # appended to a command that starts so
    "effconv finetune": "--epochs 1 --workers 0",
    "effconv eval --coco": "",
}
FAILS = ("effconv parity --module", "effconv identify mine.pth")  # exit with status 1, as their pages say
VARIES = (  # from machine to machine, or with the length of a training: any number stands for any other
    r"\b(?:AP\w*|AR\w*|loss|steps|objects|version|PyTorch|TensorFlow|onnxruntime|error) [-+]?\d[\d.]*(?:e-\d+)?(?:\+cpu)?",
    r"\b\d+ (?:steps|objects)",
    r"[-+]?\d\.\d+e-\d+|[-+]\d\.\d{4}|\d\.\d{3,4}\b|\(\d+\.\d MB",
)


def shape(line: str) -> str:
    """A line with its spaces as one, and `#` for what varies."""
    line = " ".join(line.split())
    for pattern in VARIES:
        line = re.sub(pattern, lambda found: re.sub(r"[-+]?\d[\d.]*(?:e-\d+)?(?:\+cpu)?", "#", found[0]), line)
    return line


def typed(command: str) -> str:
    """The command with what is appended to it here."""
    more = [each for start, each in MORE.items() if command.startswith(start)]
    return " ".join([command, *more])


def run(command: str) -> str:
    """What a command prints."""
    name, *arguments = shlex.split(typed(command), comments=True)
    assert name == "effconv", f"{command}: no command of effconv"
    result = CliRunner().invoke(main, arguments)
    expected = int(command.startswith(FAILS))
    assert result.exit_code == expected, f"{command}: {result.output}"
    return result.output


def execute(lines: list[str]) -> str:
    """What a Python block prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n".join(lines), "page", "exec"), {})
    return printed.getvalue()


def follow(page: Path) -> int:
    """Run the page's blocks and compare what they print with its `text` blocks; how many commands were run."""
    printed, count = "", 0
    for block in blocks(page):
        if block.kind == "text":
            there = [shape(line) for line in printed.splitlines()]
            for line in block.lines:
                assert shape(line) in there, f"{page.name}: {line!r} is not in\n{printed}"
        elif block.kind == "python":
            printed = execute(block.lines)
        else:
            printed = "".join(run(line) for line in block.lines)
            count += len(block.lines)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_reader_sees_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_d0(monkeypatch)
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert 2 <= follow(page) <= 6
