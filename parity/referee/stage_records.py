"""What `tools/record_stages.py` records, and its text in the documentation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plain import Plain
from ..rendering.markdown import markdown_table
from .compare_stages import StageComparison, StageDifference


@dataclass(frozen=True, kw_only=True)
class PortStagesRecord(Plain):
    """Other projects' ways from a picture's bytes to detections, stage by stage."""

    what: str
    command: str
    outputs: str  # of the heads: whose they are
    versions: Mapping[str, str]
    stands_in: tuple[str, ...]  # for what of a port's requirements, in words
    comparisons: tuple[StageComparison, ...]
    provenance: Mapping[str, Any]


def port_stages_table(record: PortStagesRecord) -> str:
    """A row per port and stage of the first model and picture, and of the others which stages differ."""
    first = record.comparisons[0]
    about = (first.model, first.picture)
    shown = [each for each in record.comparisons if (each.model, each.picture) == about]
    heading = (
        "port",
        "stage",
        "differs by",
        "of",
        "allowed",
        "what it does otherwise",
        "left with effconv doing so too",
    )
    rows = [[found.theirs, *_row(row)] for found in shown for row in found.rows if row.differs is not None]
    height, width = first.picture_size
    largest = max(row.effconv / row.limit for found in record.comparisons for row in found.rows if row.limit)
    text = (
        f"{first.model} at {first.image_size[0]}x{first.image_size[1]}, picture {first.picture} of COCO "
        f"({height}x{width}), {first.detections} detections of {first.official}. {record.outputs} Stages that differ, by "
        f"model and picture: {'; '.join(_wrong(record))}. effconv's own differ nowhere by more than {largest:.2f} of what "
        "is allowed, and decode and detect alike."
    )
    if record.stands_in:
        text += f" Measured with {', '.join(record.stands_in)}."
    return f"{markdown_table(heading, rows)}\n\n{text}"


def _row(row: StageDifference) -> list[str]:
    left = "-" if row.left is None else f"{row.left:.2g}"
    differs = "0" if not row.differs else f"{row.differs:.2g}"
    return [row.stage, differs, row.what, f"{row.limit:.1e}" if row.limit else "0", "; ".join(row.why) or "-", left]


def _wrong(record: PortStagesRecord) -> list[str]:
    found: dict[str, list[str]] = {}
    for each in record.comparisons:
        wrong = ", ".join(row.stage for row in each.rows if not row.ok) or "none"
        found.setdefault(f"{each.theirs}: {wrong}", []).append(f"{each.model} on {each.picture}")
    return [f"{what} ({', '.join(where)})" for what, where in found.items()]
