"""What `tools/record_losses.py` records, and its text in the documentation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plain import Plain
from ..rendering.markdown import markdown_table
from .loss import LossComparison


@dataclass(frozen=True, kw_only=True)
class TrainingDifference(Plain):
    """The first losses of `effconv bench training`, and what is left of their difference without its causes."""

    model: str
    image_size: tuple[int, int]  # height, width
    batch: int
    ours: float
    theirs: float
    ours_all_blocks: float  # no block dropped at random
    theirs_all_blocks: float
    theirs_on_our_targets: float  # and trained on the targets that our anchors give

    @property
    def left(self) -> float:
        """What is left of the difference, of our loss."""
        return abs(self.theirs_on_our_targets / self.ours_all_blocks - 1)


@dataclass(frozen=True, kw_only=True)
class LossesRecord(Plain):
    """Other projects' losses, stage by stage, and the difference in `bench training`."""

    what: str
    command: str
    versions: Mapping[str, str]
    comparisons: tuple[LossComparison, ...]
    training: tuple[TrainingDifference, ...]
    provenance: Mapping[str, Any]


def losses_table(record: LossesRecord) -> str:
    """A row per stage of the first comparison, and of the others what differs."""
    first = record.comparisons[0]
    heading = ("stage", "number shown", "effconv", first.official or "-", first.theirs, "differs by", "why")
    rows = []
    for row in first.rows:
        values = (_number(value) for value in (row.ours, row.official, row.theirs))
        apart = "-" if row.difference is None else f"{row.difference:.1e}"
        rows.append([row.stage, row.what, *values, apart, row.why or "-"])
    others = "; ".join(f"{each.model}: {_wrong(each)}" for each in record.comparisons)
    height, width = first.image_size
    return (
        f"{markdown_table(heading, rows)}\n\n{first.model} at {height}x{width}, {first.images} images, {first.boxes} "
        f"boxes, losses in float64. Stages that differ from effconv's, by model: {others}. TensorFlow's differ nowhere "
        f"by more than {_official(record):.1e} of a stage's largest value."
    )


def training_difference_table(record: LossesRecord) -> str:
    """What the bench's losses are, step by step of taking its causes away."""
    heading = ("model", "batch", "loss of", "as benched", "no block dropped", "and on effconv's targets")
    rows = []
    for each in record.training:
        ours = [f"{value:.4f}" for value in (each.ours, each.ours_all_blocks, each.ours_all_blocks)]
        theirs = [f"{value:.4f}" for value in (each.theirs, each.theirs_all_blocks, each.theirs_on_our_targets)]
        rows += [[each.model, each.batch, "effconv", *ours], [each.model, each.batch, "effdet", *theirs]]
    left = max(each.left for each in record.training)
    versions = record.versions
    return (
        f"{markdown_table(heading, rows)}\n\neffdet {versions['effdet']} with timm {versions['timm']}. With no block "
        f"dropped and on the same targets the losses differ by {left:.1e}, in float32."
    )


def _wrong(found: LossComparison) -> str:
    return ", ".join(row.stage for row in found.rows if not row.ok) or "none"


def _official(record: LossesRecord) -> float:
    return max(row.official_difference or 0 for found in record.comparisons for row in found.rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
