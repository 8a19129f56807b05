"""The record of an engine's outputs beside the model's, as a value with types, and as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plain import Plain
from .records import Candidate


@dataclass(frozen=True, kw_only=True)
class OutputRow(Plain):
    """One output of one batch."""

    case: str  # such as "3 x 257x257"
    output: str
    error: float | None  # relative to the output's largest value; None where there is none to measure
    limit: float | None
    holds: bool


@dataclass(frozen=True, kw_only=True)
class EngineRecord(Plain):
    """`effconv parity --engine`: an engine beside the model in float64."""

    what: str
    command: str
    model: str
    checkpoint: str  # the file's name
    candidate: Candidate
    engine: str
    images: str  # what the first batch is
    cases: tuple[str, ...]
    threads: int
    layers_watched: str  # which layers are looked at by themselves
    first_unsound: str | None  # the first of them that is not sound, and why
    rows: tuple[OutputRow, ...]
    float64_error: float | None  # the largest; None for engines that have no float64, and where it is not finite
    float64_limit: float | None  # None for engines that have no float64
    ok: bool
    provenance: Mapping[str, Any]


def engine_lines(record: EngineRecord) -> list[str]:
    """The record as text, the verdict first."""
    failed = [row for row in record.rows if not row.holds]
    name = f"{record.model} by {record.engine}"
    if record.ok:
        lines = [f"{name}: all {len(record.rows)} outputs are the model's, within what rounding allows"]
    elif record.first_unsound:
        lines = [f"{name}: not sound, first {record.first_unsound}"]
    else:
        first = f"{failed[0].output} of {failed[0].case}" if failed else "in float64"
        lines = [f"{name}: {len(failed) or 'no'} outputs differ by more than rounding, first {first}"]
    lines.append(f"  batches {', '.join(record.cases)}; layers looked at by themselves: {record.layers_watched}")
    for row in record.rows:
        verdict = "" if row.holds else "   DIFFERS"
        figures = f"error {_shown(row.error)}, limit {_shown(row.limit)}"
        lines.append(f"  {row.case:14} {row.output:18} {figures}{verdict}")
    if record.float64_limit is not None:
        lines.append(f"  in float64 {_shown(record.float64_error)}, limit {record.float64_limit:.0e}")
    return lines


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.1e}"
