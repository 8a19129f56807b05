"""Rows of an ablation that are done, on disk, so that a killed run goes on where it was.

Beside the record OUT a file OUT.rows holds JSON lines: first what the run is, then a line per row.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import EffconvError
from ...strict_json import as_read, json_text
from ..same_run import changes, shown
from .record import AblationRow

ROWS_ENDING = ".rows"


class FinishedRows:
    """The file of one run. `run` is whatever must be equal for rows to belong together."""

    def __init__(self, record: Path, run: Mapping[str, Any]):
        self.path, self.run = record.with_name(record.name + ROWS_ENDING), as_read(run)

    def read(self) -> dict[str, AblationRow]:
        """{name: row} so far; none without a file. A last line cut short by a kill is dropped from the file.

        Raises EffconvError for a damaged file, and naming what differs when it is of another run.
        """
        if not self.path.is_file():
            return {}
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self.path.write_bytes(whole)
        try:
            run, *rows = [json.loads(line) for line in whole.splitlines()]
            earlier = [AblationRow.read(row) for row in rows]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EffconvError(f"{self.path}: damaged ({error}); delete it to start anew") from error
        if differing := changes(run, self.run):
            raise EffconvError(
                f"{self.path} is of another run: {shown(differing)}; run it as before, or start anew without resuming",
                parameters={"resume": True},
            )
        return {row.name: row for row in earlier}

    def start(self) -> None:
        """A file of no rows, in place of any other."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json_text(self.run) + "\n", encoding="utf-8")

    def add(self, row: AblationRow) -> None:
        """One more row, out of this process's hands when it returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json_text(row.plain()) + "\n")

    def remove(self) -> None:
        """Forget them: the record holds them now."""
        self.path.unlink(missing_ok=True)
