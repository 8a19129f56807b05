"""A comparison as one value: the record that goes to JSON, to tables and to the HTML page, and its verdict."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...strict_json import finite
from ..difference import HISTOGRAM_LOW, HISTOGRAM_WIDTH
from ..provenance import provenance
from ..reference.reading import NOT_COVERED
from .backward import GradientRow
from .exercise import in_words
from .explain import Explained
from .records import (
    Candidate,
    CheckFigures,
    ComparisonRecord,
    ExplanationRow,
    Heat,
    Histogram,
    Images,
    LayerRow,
    NoiseFigures,
    Pictures,
    Reference,
    SoundnessFigures,
    Unexercised,
    VariableRow,
    WeightsByName,
)
from .rows import Check, Row, first_failure

PICTURED = "float32 accumulated"  # the check whose histogram and heat map a layer that holds is shown with


class Sides(NamedTuple):
    """What was compared, and on what."""

    reference: Reference
    candidate: Candidate
    images: Images


def comparison_record(
    model: str,
    rows: Sequence[Row],
    gradient_rows: Sequence[GradientRow],
    explained: Explained,
    sides: Sides,
    command: str,
    tensors: WeightsByName | None = None,
    unexercised: Sequence[Unexercised] = (),
) -> ComparisonRecord:
    """The record of one comparison.

    `tensors` is what comparing by name found and `unexercised` what the images do not reach. Every number is finite or
    None. A row's pictures are those of its first failing check.
    """
    first = first_failure(rows)
    return ComparisonRecord(
        model=model,
        ok=first is None and bool(rows) and all(row.ok for row in gradient_rows) and not (tensors and tensors.differ),
        verdict=verdict(rows, gradient_rows, sides.reference, tensors, unexercised),
        first_failure=first.layer.key if first else None,
        reference=sides.reference,
        candidate=sides.candidate,
        images=sides.images,
        rows=tuple(_row(row) for row in rows),
        tensors=tensors,
        unexercised=tuple(unexercised),
        explanations=tuple(ExplanationRow(**each._asdict(), explains=each.explains) for each in explained.explanations),
        provenance={"command": command, **provenance()},
        backward=tuple(_gradient_row(row) for row in gradient_rows),
        tried=tuple(explained.tried),
    )


def verdict(
    rows: Sequence[Row],
    gradient_rows: Sequence[GradientRow],
    reference: Reference,
    tensors: WeightsByName | None = None,
    unexercised: Sequence[Unexercised] = (),
) -> str:
    """One line: whether all layers hold, and if not, where the two part first; whether the weights are the
    checkpoint's; and what was not looked at. A comparison of effconv with itself says so and proves nothing.
    """
    first = first_failure(rows)
    failed = sum(not row.ok for row in rows)
    itself = reference.kind == "torch"
    wrong = bool(tensors and tensors.differ)
    if not rows:
        line = "nothing was compared"
    elif first is None and wrong:
        line = _held(rows, "two runs of effconv: " if itself else "", " on this input")
    elif first is None:
        line = _held(rows, "two runs of effconv agree: " if itself else "nothing changed on the way: ")
    else:
        official = f" ({first.layer.official})" if first.layer.official else ""
        line = f"{failed} of {len(rows)} layers differ, first {first.layer.key}{official}: {first.reason}"
        line = f"two runs of effconv differ: {line}" if itself else line
    if tensors:
        line += _of_tensors(tensors, first is None and bool(rows))
    if gradient_rows:
        failing = [row for row in gradient_rows if not row.ok]
        differ = "differs" if len(failing) < 2 else "differ"
        line += f"; {len(failing) or 'none'} of {len(gradient_rows)} gradients {differ}"
    # Where only effconv read the checkpoint, a fault of its reader would be on both sides.
    if (unreached := in_words(unexercised)) and (not tensors or tensors.read_by == NOT_COVERED):
        line += f"; not reached by this input: {unreached}"
    return f"{line}; how the weights were read is not covered" if reference.reading == NOT_COVERED else line


def _of_tensors(tensors: WeightsByName, held: bool) -> str:
    """Whether the candidate's tensors are the checkpoint's, and the first that is not."""
    total, differ = tensors.compared, tensors.differ
    if not differ:
        reader = ", as effconv reads it" if tensors.read_by == NOT_COVERED else ""
        return f", all {total} tensors are the checkpoint's{reader}" if held else ""
    worst = differ[0]
    official = f" ({worst.official})" if worst.tensor and worst.official else ""
    name = worst.tensor or worst.official
    found = f"{len(differ)} of {total} tensors {'differs' if len(differ) == 1 else 'differ'} from the checkpoint"
    return f"{', but' if held else ';'} {found}: {name}{official}, {worst.reason}"


def _held(rows: Sequence[Row], before: str, after: str = "") -> str:
    """How many layers were compared, of how many, and what was not looked at."""
    compared = [row for row in rows if row.checks]
    held = f"{before}all {len(rows)} layers hold{after}"
    if len(compared) < len(rows):
        held = f"{before}{len(compared)} of {len(rows)} layers are in the reference, and hold{after}"
    if not any(name.endswith("local") for row in compared for name in row.checks):
        held += "; from the image on only, no layer on the reference's own input"
    return held


def _row(row: Row) -> LayerRow:
    return LayerRow(
        layer=row.layer.key,
        official=row.layer.official,
        shape=tuple(row.shape),
        ok=row.ok,
        fault="; ".join(dict.fromkeys(row.faults.values())),
        checks=_checks(row.checks),
        soundness={
            side: SoundnessFigures(ok=each.ok, error=finite(each.error), times_bound=finite(each.times_bound))
            for side, each in row.soundness.items()
        },
        pictures=_pictures(row.checks),
    )


def _pictures(checks: Mapping[str, Check]) -> Pictures:
    failing = [name for name, check in checks.items() if not check.ok]
    shown = (*failing, PICTURED, *checks)
    pictured = next((name for name in shown if name in checks), None)
    if pictured is None:
        return Pictures(histogram=None, heat=None)
    found, heat = checks[pictured].difference, None
    if found.heat is not None:
        values = tuple(tuple(finite(value) for value in line) for line in found.heat.tolist())
        heat = Heat(check=pictured, values=values)
    histogram = Histogram(
        check=pictured,
        low=HISTOGRAM_LOW,
        width=HISTOGRAM_WIDTH,
        counts=tuple(found.histogram),
        zeros=found.zeros,
    )
    return Pictures(histogram=histogram, heat=heat)


def _gradient_row(row: GradientRow) -> VariableRow:
    return VariableRow(
        variable=row.variable,
        official=row.official,
        shape=tuple(row.shape),
        ok=row.ok,
        fault=row.fault,
        checks=_checks(row.checks),
    )


def _checks(checks: Mapping[str, Check]) -> dict[str, CheckFigures]:
    return {name: _check(check) for name, check in checks.items()}


def _check(check: Check) -> CheckFigures:
    found, noise = check.difference, check.noise
    return CheckFigures(
        ok=check.ok,
        error=finite(found.error),
        rms=finite(found.rms),
        cosine=finite(found.cosine),
        ulp=finite(found.ulp),
        limit=finite(check.limit),
        times_bound=None if check.times_bound is None else finite(check.times_bound),
        noise=noise
        and NoiseFigures(
            candidate=finite(noise.candidate), reference=finite(noise.reference), estimated=noise.estimated
        ),
    )
