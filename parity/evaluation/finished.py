"""Results of finished images on disk, so that a killed evaluation goes on where it was.

Beside the output OUT a folder OUT.parts holds files of JSON lines: first what the run is, then a line per image. Each
process of each session writes a file of its own, so a line that a kill cut short is the last of its file.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import EffconvError
from ...strict_json import as_read, json_text
from ..same_run import changes, shown

COLUMNS = 6  # x, y, width, height, score, category id
AS_THEY_ARE = "failure", "content", "not_finite"  # fields of a line that are read as they were written


class Finished(NamedTuple):
    """One image's result: detections (N, 6) float32 [x, y, width, height, score, category id], or why it has none.

    `content` is the digest of the file that was read (`contents.digest`), and `not_finite` how many detections are left
    out because their boxes or scores are NaN or infinite.
    """

    image_id: int
    detections: NDArray[np.float32]
    failure: str | None = None
    content: str | None = None
    not_finite: int = 0


class Parts:
    """The folder of one run's finished images. `run` is whatever must be equal for results to belong together."""

    def __init__(self, folder: Path, run: Mapping[str, Any]):
        self.folder, self.run = folder, as_read(run)

    def read(self) -> dict[int, Finished]:
        """{image id: result} of all sessions so far, the latest where there are several.

        Raises EffconvError naming what differs when they belong to another run.
        """
        found: dict[int, Finished] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for each in self._read(path):
                found[each.image_id] = each
        return found

    def _read(self, path: Path) -> Iterator[Finished]:
        lines = path.read_bytes().split(b"\n")
        # What follows the last line end is a line cut short, or nothing.
        for number, line in enumerate(lines[:-1]):
            try:
                values = json.loads(line)
                if number == 0:
                    self._require_same_run(values, path)
                    continue
                rows = np.array(values["detections"], np.float32).reshape(-1, COLUMNS)
                result = Finished(int(values["image_id"]), rows, **{name: values[name] for name in AS_THEY_ARE})
            except (ValueError, KeyError, TypeError) as error:
                raise EffconvError(
                    f"{path}: line {number + 1} is damaged ({error}); delete {self.folder} to start anew"
                ) from error
            yield result

    def _require_same_run(self, run: Any, path: Path) -> None:
        if differing := changes(run, self.run):
            raise EffconvError(
                f"{path} is of another run: {shown(differing)}; run it as before, or start anew without resuming",
                parameters={"resume": True},
            )

    def open(self, rank: int) -> IO[str]:
        """A new file for this process to write into, headed by the run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        session = len(list(self.folder.glob(f"*-rank{rank}.jsonl")))
        file = (self.folder / f"{session:04d}-rank{rank}.jsonl").open("x", encoding="utf-8")
        file.write(json_text(self.run) + "\n")
        file.flush()
        return file

    def remove(self) -> None:
        """Forget all sessions."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_line(file: IO[str], result: Finished) -> None:
    """Add one image's result, whole and out of this process's hands when it returns."""
    # The shortest decimals that give the same float32 again.
    rows = [[float(str(value)) for value in row] for row in result.detections]
    others = {name: getattr(result, name) for name in AS_THEY_ARE}
    line = {"image_id": result.image_id, "detections": rows, **others}
    file.write(json_text(line, separators=(",", ":")) + "\n")
    file.flush()
