"""The verdict of `demo` and `verify` is said first, in the colour of its state."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from effconv.parity.rendering.html import FAILS, HOLDS, OPEN
from effconv.parity.verification.demo_page import demo_verdict
from effconv.parity.verification.outcome import StepOutcome
from effconv.parity.verification.report import done_line, print_steps

LONG = "nothing changed on the way: all 477 layers hold, all 709 tensors are the checkpoint's, as TensorFlow reads it"


def record(*steps: tuple[str, bool | None], ok: bool) -> dict[str, Any]:
    return {"ok": ok, "steps": [{"name": name, "holds": holds, "verdict": LONG} for name, holds in steps]}


GOOD = record(("layers", True), ("metrics", True), ok=True)
UNKNOWN = record(("checkpoint", None), ("metrics", True), ok=True)
BAD = record(("checkpoint", None), ("layers", False), ("metrics", False), ok=False)


def test_a_demonstration_is_whole_only_where_every_step_is_proven() -> None:
    assert demo_verdict(GOOD) == ("nothing changed on the way", HOLDS)
    assert demo_verdict(UNKNOWN) == ("no step fails, but not every step is proven", OPEN)
    assert demo_verdict(BAD) == ("something changed on the way", FAILS)


@pytest.mark.parametrize("columns", ["80", None])
def test_the_verdict_is_first_and_a_terminal_of_80_columns_shows_all(
    columns: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    output = io.StringIO()
    print_steps("shapes: a verdict", FAILS, BAD["steps"], Path("demo/index.html"), Console(file=output, width=80))
    first, *lines, last = output.getvalue().splitlines()
    assert (first.rstrip(), last) == ("shapes: a verdict", "-> demo/index.html")
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["checkpoint", "layers", "metrics"]
    assert (max(map(len, lines)) <= 80) is (columns is not None)
    assert " ".join(" ".join(lines).split()).count(LONG) == 3
    assert (len(lines) == 3) is (columns is None)  # whole lines for programs


def test_progress_gives_the_reason_of_what_does_not_hold_at_once() -> None:
    assert done_line(StepOutcome("layers", True, LONG)) == "layers: holds"
    assert done_line(StepOutcome("layers", False, "first x")) == "layers: DOES NOT HOLD: first x"
    assert done_line(StepOutcome("metrics", None, "other images")) == "metrics: not proven: other images"
