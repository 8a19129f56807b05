"""The steps of a demonstration or a verification on a terminal: the verdict first, then what became of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ..rendering.html import FAILS, HOLDS, OPEN
from ..rendering.terminal import keeps_lines, wide_console, wrapped
from .outcome import StepOutcome

WORDS = {True: "holds", False: "DOES NOT HOLD", None: "not proven"}
COLOURS = {True: "green", False: "red", None: "yellow"}
OF_STATES = {HOLDS: "green", FAILS: "red", OPEN: "yellow"}
NAME, OUTCOME = 24, 13  # columns
LONG_FIRST = NAME + 1 + OUTCOME + 1  # where verdicts begin


def done_line(step: StepOutcome) -> str:
    """What is said of a step as soon as it is done: what fails with its reason, as the report may be an hour away."""
    line = f"{step.name}: {WORDS[step.holds]}"
    return line if step.holds else f"{line}: {step.verdict}"


def print_steps(
    verdict: str, state: str, steps: Sequence[Mapping[str, Any]], page: Path, console: Console | None = None
) -> None:
    """A verdict, in a line by its state as `Page` has it, a line per step of the record, and where the whole is."""
    console = console or wide_console()
    console.print(verdict, style=f"bold {OF_STATES[state]}", soft_wrap=keeps_lines(console), markup=False)
    for step in steps:
        text = Text(step_line(StepOutcome(**step), console))
        text.stylize(COLOURS[step["holds"]], NAME + 1, LONG_FIRST)
        console.print(text, soft_wrap=True)
    console.print(f"-> {page}", soft_wrap=True, markup=False, highlight=False)


def step_line(step: StepOutcome, console: Console) -> str:
    """A step's name, outcome and verdict, in columns."""
    line = f"{step.name:{NAME}} {WORDS[step.holds]:{OUTCOME}} {step.verdict}"
    return line if keeps_lines(console) else wrapped(line, LONG_FIRST, console.width)
