"""Records of evaluations as Markdown tables for the documentation."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..rendering.markdown import markdown_table
from .end_to_end_record import EndToEndTable
from .measured_records import CheckSummary, ComparisonSummary, ProvenModels, StageBudget


def end_to_end_table(record: EndToEndTable) -> str:
    """A row per model: how many images hold at each stage, and how the final lists compare."""
    heading = (
        *("model", "images", "input identical", "same candidates of the same outputs"),
        *("same detections of the same outputs", "same objects in the same order, from the bytes on"),
        *("explained", "unexplained", "detections matched one to one"),
    )
    rows = []
    for row in record.rows:
        found, lists = row.found, row.found.lists
        held = (found.stages[name].held for name in ("input", "decoded boxes", "detections"))
        cells = [row.model, found.images, *held, lists.identical, lists.explained, lists.unexplained]
        rows.append([*cells, f"{found.matched} of {found.detections}"])
    return markdown_table(heading, rows)


def parity_table(record: ProvenModels) -> str:
    """`tools/record_parity.py`: per model and size, the largest errors of every comparison, and what held."""
    heading = (
        *("model", "input", "layers that hold", "float64 local", "float64 accumulated", "float32 local"),
        *("float32 accumulated (limit there)", "reference beside recorded run", "ours beside recorded run"),
    )
    rows = []
    for row in record.rows:
        comparisons = row.comparisons
        main = comparisons["candidate beside reference"]
        cells = [row.model, row.size, _held(main)]
        cells += [_error(main.checks[name]) for name in ("float64 local", "float64 accumulated", "float32 local")]
        last = main.checks["float32 accumulated"]
        cells.append(f"{_error(last)} ({last.limit_there:.1e}) `{last.worst_layer}`")
        for name in ("reference beside recorded", "candidate beside recorded"):
            recorded = comparisons.get(name)
            cells.append(
                f"{_error(recorded.checks['float32 accumulated'])}, {_held(recorded)}" if recorded else "no record"
            )
        rows.append(cells)
    return markdown_table(heading, rows)


def _held(comparison: ComparisonSummary) -> str:
    return f"{comparison.layers_that_hold} of {comparison.layers}"


def _error(check: CheckSummary) -> str:
    return f"{check.worst_error:.1e}"


def budget_table(record: ProvenModels, model: str, size: str, stages: str) -> str:
    """The error budget of one model: `stages` is "rounding_by_operation" or "rounding_along_the_network"."""
    row = next(row for row in record.rows if (row.model, row.size) == (model, size))
    found: Sequence[StageBudget] = getattr(row, stages)
    heading = (
        *("stage", "layers", "PyTorch's float32 noise", "TensorFlow's float32 noise"),
        *("float32 difference", "float64 difference"),
    )
    figures = ("candidate_noise", "reference_noise", "float32_error", "float64_error")
    rows = [[stage.stage, stage.layers, *(_magnitude(getattr(stage, name)) for name in figures)] for stage in found]
    return markdown_table(heading, rows)


def _magnitude(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def estimate_table(record: ProvenModels) -> str:
    """How near the limits the official code's recorded runs come, where their noise can only be estimated."""
    rows = []
    for row in record.rows:
        names = [f"{side} beside recorded" for side in ("reference", "candidate")]
        pairs = [row.comparisons[name] for name in names if name in row.comparisons]
        if len(pairs) == len(names):
            nearest = [pair.checks["float32 accumulated"].largest_error_over_limit for pair in pairs]
            rows.append([row.model, row.size, *(f"{share:.2f}" for share in nearest)])
    return markdown_table(("model", "input", "nearest to its limit: reference", "nearest to its limit: effconv"), rows)


def fault_table(record: Mapping[str, Any]) -> str:
    """`tools/record_faults.py`: every planted fault, whether it was found, where, and what explains it."""
    rows = []
    for row in record["rows"]:
        explained = ", ".join(dict.fromkeys(row["explained_as"])) or "no known mistake"
        detected, placed = ("yes" if held else "**no**" for held in (row["detected"], _is_placed(row)))
        rows.append([row["model"], row["fault"], detected, f"`{row['named']}`", placed, explained])
    return markdown_table(
        ("model", "fault", "detected", "first layer named", "planted there", "explained as"),
        rows,
    )


def _is_placed(row: Mapping[str, Any]) -> bool:
    return bool(row["named"] == row["planted_in"])


def fault_summary(record: Mapping[str, Any]) -> str:
    """The same in two sentences, with the clean runs."""
    rows, runs = record["rows"], record["clean_runs"]
    known = [row for row in rows if row["expected_explanation"]]
    explained = sum(row["expected_explanation"] in row["explained_as"] for row in known)
    placed = sum(_is_placed(row) for row in rows)
    alarms = sum(run["false_alarm"] is not None for run in runs)
    return (
        f"{len(rows)} single faults planted in {len({row['model'] for row in rows})} models: "
        f"{sum(row['detected'] for row in rows)} detected, {placed} with the faulty layer named first; "
        f"of the {len(known)} that are known porting mistakes, {explained} explained as what they are. "
        f"{len(runs)} clean runs of different seeds, sizes, thread counts and memory formats: {alarms} false alarms."
    )


def sensitivity_table(record: Mapping[str, Any]) -> str:
    """`tools/record_sensitivity.py`: the smallest relative change of each kernel that is found."""
    kernels: Sequence[str] = list(record["rows"][0]["smallest_found"])
    heading = ["model", "reference", *(f"`{kernel.removesuffix('.weight')}`" for kernel in kernels)]
    rows = []
    for row in record["rows"]:
        smallest = [row["smallest_found"][kernel] for kernel in kernels]
        cells = ["not found" if value is None else f"{value:.1e}" for value in smallest]
        rows.append([f"{row['model']} {row['size']}", row["reference"], *cells])
    return markdown_table(heading, rows)
