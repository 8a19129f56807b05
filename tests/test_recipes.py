"""Every command of docs/recipes/ is run, in order, and prints the lines that the page shows.

What a reader types is typed here, but for the options that `MORE` appends to keep the test short.
"""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_lines import every_command
from dataset_layouts import Writer, write_roboflow, write_yolo
from recipe_pages import blocks, prepare, prepare_weights, prose, stand_in_for_d0, typed_in_prose

from effconv.cli import main

RECIPES = Path(__file__).resolve().parent.parent / "docs" / "recipes"
PAGES = sorted(RECIPES.glob("*.md"))
TENSORFLOW = ("deploy", "google")  # pages with a command that needs it
RUNS = [
    pytest.param(path, layout, id=f"{path.stem}-{layout.__name__.removeprefix('write_')}", marks=marks)
    for path in PAGES
    for layout in ((write_roboflow, write_yolo) if path.stem == "finetune" else (write_roboflow,))
    for marks in [[pytest.mark.tf] if path.stem in TENSORFLOW else []]
]
# Appended to a command that starts so.
MORE = {"effconv finetune": "--epochs 1 --workers 0"}
FAILS = ("effconv parity --module", "effconv identify mine.pth")  # exit with status 1, as their pages say
# What varies from machine to machine, or with the length of a training; every other number is as the page has it.
VARIES = {
    r"(loss|AP|of TensorFlow|by onnxruntime) -?[\d.]*\d": r"\1 #",
    r"(findings), \d+ notes": r"\1, # notes",  # YOLO counts categories from 0, which is noted
    r"(IoU 0.50) [\d.]+": r"\1 #",
    r"\b\d+ (steps|objects)\b": r"# \1",
    r"\d(\.\d+)?e[-+]\d+": "#",
    r"[-+]?\d\.\d{3,4}\b": "#",
    r"\(\d+\.\d MB": "(# MB",
}


def shape(line: str) -> str:
    """A line with each run of spaces as one, and `#` for what varies."""
    line = " ".join(line.split())
    for pattern, replacement in VARIES.items():
        line = re.sub(pattern, replacement, line)
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


def follow(page: Path) -> list[str]:
    """Run the page's blocks, compare what they print with its `text` blocks; the commands that were run."""
    printed, commands = "", []
    for block in blocks(page):
        if block.kind == "text":
            there = [shape(line) for line in printed.splitlines()]
            assert block.lines, f"{page.name}: an empty block"
            for line in block.lines:
                assert shape(line) in there, f"{page.name}: {line!r} is not in\n{printed}"
        elif block.kind == "python":
            printed = execute(block.lines)
        else:
            printed = "".join(run(line) for line in block.lines)
            commands += block.lines
    return commands


@pytest.mark.slow
@pytest.mark.parametrize(("page", "layout"), RUNS)
def test_a_reader_sees_what_the_page_says(
    page: Path, layout: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout is write_yolo:
        pytest.importorskip("yaml")
    stand_in_for_d0(monkeypatch)
    prepare(tmp_path, layout)
    prepare_weights(tmp_path, page.stem)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "myport", raising=False)
    assert 2 <= len(follow(page)) <= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_short_and_every_command_is_in_a_block_that_is_run(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= 80
    assert not typed_in_prose(page), "a whole command stands outside the blocks that are run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_mentions_is_there(page: Path, repository: Path) -> None:
    """Options are those of some command; messages quoted in "you see" are written somewhere in the code."""
    text = prose(page)
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text))
    assert options <= {name for _, command in every_command() for each in command.params for name in each.opts}
    places = ("commands", "convert", "effdet_torch", "parity")
    files = [repository / "loading.py", *(path for place in places for path in (repository / place).rglob("*.py"))]
    code = re.sub(r'"\s+f?"', "", "".join(path.read_text() for path in files))
    for message in re.findall(r"(?m)^\| `([^`]+)` \|", text):
        for part in re.split(r" ?\.\.\.|efficientdet-d0", message):
            assert part in code, f"{page.name}: {message}: nothing prints {part!r}"


def test_the_tables_of_this_file_are_used() -> None:
    commands = [line for page in PAGES for block in blocks(page) if block.kind == "sh" for line in block.lines]
    for start in (*MORE, *FAILS):
        assert any(line.startswith(start) for line in commands), start


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```\neffconv models\n```\n", "say what the block is"),
        ("```sh\neffconv models\n", "not closed"),
        ("```sh\neffconv models\n```\n```text\nno such line\n```\n", "is not in"),
        ("```sh\neffconv models --no-such-option\n```\n", "No such option"),
        ("```sh\nrm -r somewhere\n```\n", "no command of effconv"),
    ],
)
def test_what_a_page_must_not_have_is_caught(text: str, complaint: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match=complaint):
        follow(page)


def test_a_command_in_prose_is_caught(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`effconv models` and `effconv tf2torch --model d0`\n```sh\neffconv models\n```\n")
    assert typed_in_prose(page) == ["effconv tf2torch --model d0"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("  AP, IoU 0.50    0.4013", "AP, IoU 0.50  0.1", True),
        ("x: 40 steps, loss 0.8119 in the last", "x: 2 steps, loss 1.2 in the last", True),
        ("all 352 layers hold", "all 351 layers hold", False),
        ("25 boxes of 3 categories", "25 boxes of 4 categories", False),
        ("zero-padded-maxpool AP 0.5498", "no-same-maxpool AP 0.5498", False),
    ],
)
def test_only_what_varies_may_differ(one: str, other: str, same: bool) -> None:
    assert (shape(one) == shape(other)) == same
