"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere, nothing for quick work."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

QUIET_SECONDS = 0.5  # work done sooner shows nothing
LINE_SECONDS = 5.0  # between plain lines
MEGABYTE = 1e6

Report = Callable[[int, int | None], None]


@contextlib.contextmanager
def byte_progress(label: str) -> Iterator[Report]:
    """Yields `report(done, total)` in bytes (total None when unknown), shown on stderr while the block runs."""
    shown = _Bar(label) if sys.stderr.isatty() else _Lines(label)
    try:
        yield shown.report
    finally:
        shown.close()


class _Lines:
    def __init__(self, label: str):
        self.label = label
        self.start = self.last = time.monotonic()
        self.first_done: int | None = None

    def report(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self.first_done is None:
            self.first_done = done  # a resumed download did not take any time for these
        if now - self.last < LINE_SECONDS:
            return
        self.last = now
        rate = (done - self.first_done) / (now - self.start)
        line = f"{self.label}: {done / MEGABYTE:.1f}"
        line += f" of {total / MEGABYTE:.1f} MB" if total else " MB"
        line += f", {rate / MEGABYTE:.1f} MB/s"
        if total and rate > 0:
            line += f", {max(total - done, 0) / rate:.0f} s left"
        print(line, file=sys.stderr)

    def close(self) -> None:
        """Nothing is left open by plain lines."""


class _Bar:
    def __init__(self, label: str):
        self.label = label
        self.start = time.monotonic()
        self.stack = contextlib.ExitStack()
        self.update: Report | None = None

    def report(self, done: int, total: int | None) -> None:
        if self.update is None:
            if time.monotonic() - self.start < QUIET_SECONDS:
                return
            self.update = self._open(done)
        self.update(done, total)

    def _open(self, done: int) -> Report:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        bar = Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
        self.stack.enter_context(bar)
        task = bar.add_task(self.label, completed=done)
        return lambda done, total: bar.update(task, completed=done, total=total)

    def close(self) -> None:
        """Leave the finished bar on the screen."""
        self.stack.close()
