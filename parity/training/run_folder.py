"""What a training leaves in its folder, so that it can be killed at any moment and resumed: state, log, evaluations."""

import csv
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...convert.output import replacing
from ...convert.output_kinds import Kind
from ...effdet_torch.training.trainer import StepRecord, TrainingError
from ...strict_json import as_read, json_text
from ..same_run import changes, shown

STATE, STEPS, EVALUATIONS, RUN = "state.pth", "steps.csv", "evaluations.csv", "run.json"
UNREADABLE = "unreadable.json"  # images that an evaluation could not read, where there are any
STEP_COLUMNS = ("step", *StepRecord._fields)
MAY_CHANGE = ("workers", "keep_every")  # of the settings, when a training is gone on with: no result depends on them


# What a training adds to as it goes: known by the file beside it that says which training it is.
LOG = Kind("part of a training", lambda path: path.with_name(RUN).is_file())


class TrainingFolder:
    """The folder of one training. `run` is everything that its results depend on, as plain values."""

    def __init__(self, path: Path, run: Mapping[str, Any]):
        self.path, self.run = path, as_read(run)

    def require_free(self) -> None:
        """Raises TrainingError where another training is, so that nothing is lost by mistake."""
        if (self.path / RUN).exists():
            raise TrainingError(
                f"{self.path}: a training is there; give another folder, or go on with it",
                parameters={"out": None, "resume": True},
            )

    def begin(self) -> None:
        """Start anew. Raises TrainingError where another training is."""
        self.require_free()
        with replacing(self.path / RUN) as (file,):
            file.write_text(json_text(self.run, indent=1) + "\n", encoding="utf-8")
        self._write_rows(STEPS, [STEP_COLUMNS])

    def resume(self) -> dict[str, Any] | None:
        """The state to go on from; None where the training was killed before the first was kept.

        Logs are cut back to it. Raises TrainingError naming what differs when the folder is another training's.
        """
        self._require_same_run()
        state = self._read_state()
        steps = state["steps"] if state else 0
        for name in (STEPS, EVALUATIONS):
            rows = self._rows(name)
            # A row cut short by the kill is one that is done again.
            kept = [row for row in rows[1:] if len(row) == len(rows[0]) and int(row[0]) < steps + (name != STEPS)]
            if rows:
                self._write_rows(name, [rows[0], *kept])
        if not self._rows(STEPS):
            self._write_rows(STEPS, [STEP_COLUMNS])
        return state

    def keep(self, state: Mapping[str, Any]) -> None:
        """Put a state in the place of the last one, whole or not at all."""
        with replacing(self.path / STATE) as (path,), path.open("wb") as file:
            try:
                torch.save(dict(state), file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # what the system said; PyTorch's own says nothing of it
                    raise error.__context__ from error
                raise

    def log(self, step: int, record: StepRecord) -> None:
        """Add what a step found; out of this process's hands when it returns."""
        self._append(STEPS, [step, *(repr(value) for value in record)])

    def log_evaluation(self, steps: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics after so many steps."""
        if not (self.path / EVALUATIONS).exists():
            self._write_rows(EVALUATIONS, [["steps", *metrics]])
        self._append(EVALUATIONS, [steps, *(repr(value) for value in metrics.values())])

    def log_unreadable(self, failures: Mapping[str, str]) -> list[str]:
        """Add images that an evaluation could not read, {id: reason}; the reasons of those that are new here."""
        known = self.unreadable()
        new = {image: reason for image, reason in failures.items() if image not in known}
        if new:
            with replacing(self.path / UNREADABLE) as (file,):
                file.write_text(json_text({**known, **new}, indent=1) + "\n", encoding="utf-8")
        return [*new.values()]

    def unreadable(self) -> dict[str, str]:
        """{image id: reason} of all that evaluations could not read so far. Raises TrainingError for a damaged list."""
        path = self.path / UNREADABLE
        try:
            return {str(image): str(reason) for image, reason in json.loads(path.read_bytes()).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise TrainingError(
                f"{path}: cannot be read ({error}); delete it, and the next evaluation says it again"
            ) from error

    def steps(self) -> list[dict[str, float]]:
        """The log, a dictionary a step."""
        return self._numbers(STEPS)

    def evaluations(self) -> list[dict[str, float]]:
        """The evaluations so far, a dictionary each: `steps` and the metrics."""
        return self._numbers(EVALUATIONS)

    def _require_same_run(self) -> None:
        path = self.path / RUN
        try:
            earlier = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise TrainingError(
                f"{self.path}: no training to go on with; start one without resuming", parameters={"resume": True}
            ) from error
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{path}: cannot be read ({error}); start anew in another folder", parameters={"out": None}
            ) from error
        if differing := changes(earlier, self.run):
            raise TrainingError(
                f"{path} is of another training: {shown(differing)}; only {' and '.join(MAY_CHANGE)} may change when "
                "one is resumed: go on with the other settings as they were, or start anew in another folder",
                parameters={"out": None},
            )

    def _read_state(self) -> dict[str, Any] | None:
        path = self.path / STATE
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise TrainingError(
                f"{path}: damaged ({reason}); start anew in another folder", parameters={"out": None}
            ) from error
        if not isinstance(state, dict) or not isinstance(state.get("steps"), int):
            raise TrainingError(
                f"{path}: not the state of a training; start anew in another folder", parameters={"out": None}
            )
        return state

    def _numbers(self, name: str) -> list[dict[str, float]]:
        rows = self._rows(name)
        return [dict(zip(rows[0], map(float, row), strict=True)) for row in rows[1:]]

    def _rows(self, name: str) -> list[list[str]]:
        path = self.path / name
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))

    def _write_rows(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        with replacing(self.path / name) as (path,), path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)

    def _append(self, name: str, row: Sequence[Any]) -> None:
        with (self.path / name).open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)
