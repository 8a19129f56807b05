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
    heading = ("port", "stage", "differs by", "of", "allowed", "what it does otherwise", "left if effconv does so too")
    rows = [[found.theirs, *_row(row)] for found in shown for row in found.rows if row.there]
    height, width = first.picture_size
    own = max(row.effconv / row.limit for found in record.comparisons for row in found.rows if row.limit)
    text = (
        f"{first.model} at {first.image_size[0]}x{first.image_size[1]}, picture {first.picture} of COCO "
        f"({height}x{width}), beside {first.official} and its {first.detections} detections. {record.outputs} Stages "
        f"that differ, of {_count(record)}: {'; '.join(_wrong(record))}. effconv's own stages come to {own:.2f} of "
        "what is allowed at most."
    )
    if record.stands_in:
        text += f" Measured with {', '.join(record.stands_in)}."
    return f"{markdown_table(heading, rows)}\n\n{text}"


def _row(row: StageDifference) -> list[str]:
    return [
        row.stage,
        row.unlike or _number(row.differs),
        row.what,
        _number(row.limit),
        "; ".join(row.why) or "-",
        _number(row.left),
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value.is_integer() else f"{value:.2g}"


def _count(record: PortStagesRecord) -> str:
    models = {each.model: None for each in record.comparisons}
    pictures = {each.picture: None for each in record.comparisons}
    return f"{' and '.join(models)} on {' and '.join(pictures)}"


def _wrong(record: PortStagesRecord) -> list[str]:
    """Of each port the stages, and in how many of its comparisons."""
    found = []
    for port in {each.theirs: None for each in record.comparisons}:
        of_port = [each for each in record.comparisons if each.theirs == port]
        wrong = [row.stage for each in of_port for row in each.rows if not row.ok]
        counts = ", ".join(f"{stage} ({wrong.count(stage)} of {len(of_port)})" for stage in dict.fromkeys(wrong))
        found.append(f"{port}: {counts or 'none'}")
    return found
