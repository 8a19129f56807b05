"""What `tools/record_finetune.py` records, and its text in the documentation."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plain import Plain
from ..rendering.markdown import markdown_table

RECIPE = "effconv finetune"


@dataclass(frozen=True, kw_only=True)
class FinetuningRun(Plain):
    """One training: how it was made, and what came of it."""

    recipe: str  # what is otherwise than in `effconv finetune`
    seed: int
    steps: int
    seconds: float
    metrics: Mapping[str, float | None]  # of the last evaluation


@dataclass(frozen=True, kw_only=True)
class FinetuningRecord(Plain):
    """Fine-tuning beside other recipes, on the same pictures."""

    what: str
    command: str
    classes: tuple[str, ...]
    trained_on: int  # pictures
    evaluated_on: int
    runs: tuple[FinetuningRun, ...]
    provenance: Mapping[str, Any]

    def of(self, recipe: str) -> list[FinetuningRun]:
        """The runs of a recipe, by seed."""
        return [run for run in self.runs if run.recipe == recipe]

    def recipes(self) -> list[str]:
        """In the order they were run in."""
        return list(dict.fromkeys(run.recipe for run in self.runs))


def finetuning_table(record: FinetuningRecord) -> str:
    """A row per recipe: mean of its runs and their spread."""
    rows = []
    for recipe in record.recipes():
        runs = record.of(recipe)
        scores = [float(run.metrics["AP"] or 0) for run in runs]
        spread = f" ({min(scores):.3f} to {max(scores):.3f})" if len(runs) > 1 else ""
        seconds = min(run.seconds for run in runs)  # others may have run beside another program
        rows.append([recipe, f"{statistics.mean(scores):.3f}{spread}", str(runs[0].steps), f"{seconds:.0f} s"])
    return (
        f"{markdown_table(('recipe', 'AP', 'steps', 'time of the quickest'), rows)}\n\n"
        f"From the detector of eight other shapes in examples/shapes to {', '.join(record.classes)}, "
        f"{record.trained_on} pictures of 160x160, evaluated on {record.evaluated_on} others. AP is the mean of the "
        "seeds, with the lowest and the highest where there are several; one processor."
    )
