"""The record of a comparison from an image's bytes to its detections, as a value with types, and as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ..plain import INLINED, Plain
from .records import Candidate, Reference


@dataclass(frozen=True, kw_only=True)
class ListCounts(Plain):
    """How many images' final lists compare how."""

    identical: int
    explained: int  # rounding decides between equals
    unexplained: int


@dataclass(frozen=True, kw_only=True)
class StageCount(Plain):
    """In how many images a stage holds, of those where it was looked at."""

    held: int
    of: int


@dataclass(frozen=True, kw_only=True)
class StageRow(Plain):
    """One stage of one image (`end_to_end_stages.Stage`)."""

    name: str
    holds: bool
    verdict: str


@dataclass(frozen=True, kw_only=True)
class ImageRow(Plain):
    """One image that is not identical throughout."""

    image: str
    lists: str  # "identical", "explained" or "unexplained"
    stages: tuple[StageRow, ...]


@dataclass(frozen=True, kw_only=True)
class EndToEnd(Plain):
    """What was found on all images."""

    ok: bool
    verdict: str
    images: int
    lists: ListCounts
    stages: Mapping[str, StageCount]  # by name, in the order of `end_to_end_stages.STAGES`
    detections: int  # of the official pipeline
    matched: int  # one to one
    in_another_place: int  # of the matched: at another rank of the list
    largest_score_gap: float
    largest_box_gap: float
    not_identical: tuple[ImageRow, ...]


@dataclass(frozen=True, kw_only=True)
class EndToEndRow(Plain):
    """One model beside the official pipeline."""

    model: str
    candidate: Candidate
    reference: Reference
    found: Annotated[EndToEnd, INLINED]


@dataclass(frozen=True, kw_only=True)
class EndToEndRecord(Plain):
    """`effconv parity --end-to-end`."""

    row: Annotated[EndToEndRow, INLINED]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class EndToEndTable(Plain):
    """`tools/record_end_to_end.py`: several models on the same images."""

    what: str
    command: str
    provenance: Mapping[str, Any]
    rows: tuple[EndToEndRow, ...]


def counted_images(count: int) -> str:
    """A number of images in words."""
    return f"{count} image" if count == 1 else f"{count} images"


def end_to_end_lines(record: EndToEndRecord) -> list[str]:
    """The record as text, the verdict first."""
    row, found = record.row, record.row.found
    lines = [
        f"{row.model}: {found.verdict}",
        f"{row.candidate.label} beside {row.reference.label}, {counted_images(found.images)}",
    ]
    for name, outcome in found.stages.items():
        lines.append(f"  {name:24} holds in {outcome.held} of {counted_images(outcome.of)}")
    lines.append(f"  {found.matched} of {found.detections} detections matched one to one")
    for each in found.not_identical:
        stage = next((stage for stage in each.stages if not stage.holds), each.stages[-1])
        lines.append(f"{each.image}: {each.lists}: {stage.name}: {stage.verdict}")
    return lines
