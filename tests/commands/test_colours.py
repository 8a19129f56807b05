"""Colours are for terminals alone: a pseudo-terminal has them, a file has none, and NO_COLOR takes them off."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

# What the commands print, one after another, each after a line with its name.
PROGRAM = """
from pathlib import Path
from page_record import BROKEN, make_record
from score_records import RECORD, REPRODUCED
import dataclasses
from effconv.cli import main
from effconv.parity.comparison.records import ComparisonRecord
from effconv.parity.comparison.report import print_comparison
from effconv.parity.evaluation.report import print_published, print_scores
from effconv.parity.rendering.html import HOLDS
from effconv.parity.verification.report import print_steps

whole = make_record()
record = ComparisonRecord.read(whole | {"rows": whole["rows"][BROKEN - 1 : BROKEN + 1], "backward": []})
steps = [{"name": "layers", "holds": True, "verdict": "all hold"}, {"name": "metrics", "holds": None, "verdict": "-"}]
print("-- parity", flush=True)
print_comparison(record, False)
print_comparison(record, True)
print("-- verify", flush=True)
print_steps("efficientdet-d0: verified", HOLDS, steps, Path("verified/verification.html"))
print("-- eval", flush=True)
print_scores(RECORD)
print("-- published", flush=True)
print_published(dataclasses.replace(RECORD, published=REPRODUCED))
print("-- results", flush=True)
main(["results", "--model", "d0"])
"""
COLOUR = re.compile(r"\x1b\[[\d;]*?(?<![\d])(3[0-8]|9[0-7]|4[0-8])[\d;]*m")
SECTIONS = ("parity", "verify", "eval", "published", "results")


def run(terminal: bool, **more: str) -> dict[str, str]:
    """What each section printed, by its name."""
    helpers = str(Path(__file__).parents[1] / "helpers")
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    path = os.pathsep.join([helpers, *filter(None, [os.environ.get("PYTHONPATH")])])
    words, env = [sys.executable, "-c", PROGRAM], {**kept, "TERM": "xterm-256color", "PYTHONPATH": path, **more}
    if not terminal:
        text = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
    else:
        ours, theirs = pty.openpty()
        with subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            text = read_all(ours)
        assert process.returncode == 0, text
    _, *parts = re.split(r"^-- (\w+)\r?\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert tuple(sections) == SECTIONS
    assert all(len(part) > 50 for part in sections.values())
    return sections


def read_all(terminal: int) -> str:
    """What is written to a pseudo-terminal until its other end is closed."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how Linux says that nobody holds the other end
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


@pytest.fixture(scope="module")
def on_a_terminal() -> dict[str, str]:
    return run(terminal=True)


@pytest.mark.parametrize(("section", "colour"), [("parity", 31), ("verify", 32), ("published", 32)])
def test_a_verdict_has_its_colour_on_a_terminal(section: str, colour: int, on_a_terminal: dict[str, str]) -> None:
    first = on_a_terminal[section].splitlines()[0]
    assert re.match(rf"\x1b\[1;{colour}m", first), first


def test_scores_are_bold_and_results_plain_on_a_terminal(on_a_terminal: dict[str, str]) -> None:
    assert on_a_terminal["eval"].startswith("\x1b[1m")
    assert not COLOUR.search(on_a_terminal["eval"])
    assert "\x1b" not in on_a_terminal["results"]


def test_no_color_takes_the_colours_off(on_a_terminal: dict[str, str]) -> None:
    plain = run(terminal=True, NO_COLOR="1")
    for section, text in plain.items():
        assert not COLOUR.search(text), section
        assert without_escapes(text) == without_escapes(on_a_terminal[section])


def test_a_file_has_no_escape_codes() -> None:
    for section, text in run(terminal=False).items():
        assert "\x1b" not in text, section


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)
