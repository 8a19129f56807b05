"""What each engine and precision costs: what `tools/record_precision.py` records, and its text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plain import Plain
from ..rendering.markdown import markdown_table


@dataclass(frozen=True, kw_only=True)
class Change(Plain):
    """The difference of AP from float32 eager on the same pictures (`significance.Interval`)."""

    difference: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class PrecisionRow(Plain):
    """One engine in one precision. An error is None where an output is not finite."""

    engine: str
    precision: str
    scales: str | None  # of int8 kernels
    file_bytes: int | None  # None: the engine reads no file
    class_error: float | None  # the largest of a level's, relative to its largest value on all pictures
    box_error: float | None
    ap: float
    change: Change
    milliseconds: float  # median of the pictures, of the network alone


@dataclass(frozen=True, kw_only=True)
class PrecisionRecord(Plain):
    """Engines and precisions of one detector on the same pictures, float32 eager the first."""

    what: str
    command: str
    model: str
    images: int
    annotations_sha256: str
    calibrated_on: int  # training pictures, none of those above
    threads: int
    rows: tuple[PrecisionRow, ...]
    left_out: Mapping[str, str]  # reasons, by engine
    provenance: Mapping[str, Any]


def precision_table(record: PrecisionRecord) -> str:
    """A row per engine and precision."""
    rows = [
        [
            row.engine,
            row.precision if row.scales is None else f"{row.precision}, {row.scales}",
            "-" if row.file_bytes is None else f"{row.file_bytes / 1e6:.2f} MB",
            _error(row.class_error),
            _error(row.box_error),
            f"{row.ap:.4f}",
            *_change(row.change, is_baseline=place == 0),
            f"{row.milliseconds:.1f}",
        ]
        for place, row in enumerate(record.rows)
    ]
    heading = (
        *("engine", "precision", "file", "largest error: class", "largest error: box", "AP"),
        *("difference of AP", "95 % interval", "ms an image"),
    )
    left_out = "".join(f" Left out: {engine}, as {reason}." for engine, reason in record.left_out.items())
    return (
        f"{markdown_table(heading, rows)}\n\n"
        f"The detector in examples/shapes on the {record.images} pictures it was not trained on, one at a time, "
        f"on {record.threads} thread of {record.provenance['processor']}; int8 was calibrated on "
        f"{record.calibrated_on} pictures that it was trained on.{left_out}"
    )


def _error(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def _change(change: Change, *, is_baseline: bool) -> tuple[str, str]:
    return ("-", "-") if is_baseline else (f"{change.difference:+z.4f}", f"{change.low:+z.4f} to {change.high:+z.4f}")
