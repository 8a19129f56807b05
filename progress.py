"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere, nothing for quick work."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

QUIET_SECONDS = 0.5  # work done sooner shows nothing
LINE_SECONDS = 5.0  # between plain lines


class Report(Protocol):
    """How far work has come: so much done of a total (None when unknown), and what else is to be shown with it."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None: ...


class Unit(NamedTuple):
    """What is counted, and how many make one of what is shown."""

    name: str
    size: float
    digits: int

    def show(self, count: float) -> str:
        """A count in this unit, without its name."""
        return f"{count / self.size:.{self.digits}f}"


BYTES = Unit("MB", 1e6, 1)
LAYERS = Unit("layers", 1, 0)
CHANGES = Unit("changes", 1, 0)
IMAGES = Unit("images", 1, 0)
ROWS = Unit("rows", 1, 0)
EVALUATIONS = Unit("evaluations", 1, 0)


@contextlib.contextmanager
def progress(label: str, unit: Unit) -> Iterator[Report]:
    """Yields a Report, shown on stderr while the block runs."""
    shown = _Bar(label, unit) if sys.stderr.isatty() else _Lines(label, unit)
    try:
        yield shown.report
    finally:
        shown.close()


class _Lines:
    def __init__(self, label: str, unit: Unit):
        self.label, self.unit = label, unit
        self.start = self.last = time.monotonic()
        self.first_done: int | None = None

    def report(self, done: int, total: int | None, note: str = "") -> None:
        now = time.monotonic()
        if self.first_done is None:
            self.first_done = done  # a resumed download did not take any time for these
        if now - self.last < LINE_SECONDS:
            return
        self.last = now
        unit = self.unit
        rate = (done - self.first_done) / (now - self.start)
        of_total = f" of {unit.show(total)}" if total else ""
        line = f"{self.label}: {unit.show(done)}{of_total} {unit.name}, {rate / unit.size:.1f} {unit.name}/s"
        if total and rate > 0:
            line += f", {max(total - done, 0) / rate:.0f} s left"
        print(f"{line}; {note}" if note else line, file=sys.stderr)

    def close(self) -> None:
        """Nothing is left open by plain lines."""


class _Bar:
    def __init__(self, label: str, unit: Unit):
        self.label, self.unit = label, unit
        self.start = time.monotonic()
        self.stack = contextlib.ExitStack()
        self.update: Report | None = None

    def report(self, done: int, total: int | None, note: str = "") -> None:
        if self.update is None:
            if time.monotonic() - self.start < QUIET_SECONDS:
                return
            self.update = self._open(done)
        self.update(done, total, note)

    def _open(self, done: int) -> Report:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
        from rich.text import Text

        unit = self.unit

        class Figures(ProgressColumn):
            """Done of total, and the rate."""

            def render(self, task: Task) -> Text:
                total = "?" if task.total is None else unit.show(task.total)
                rate = f", {task.speed / unit.size:.1f} {unit.name}/s" if task.speed else ""
                return Text(f"{unit.show(task.completed)}/{total} {unit.name}{rate}")

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            Figures(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        bar = Progress(*columns, console=Console(stderr=True))
        self.stack.enter_context(bar)
        task = bar.add_task(self.label, completed=done, note="")
        return lambda done, total, note="": bar.update(task, completed=done, total=total, note=note)

    def close(self) -> None:
        """Leave the finished bar on the screen."""
        self.stack.close()
