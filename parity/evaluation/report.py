"""Metrics as people read them: a model's own, beside a published record, and published ones as a table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..rendering.terminal import keeps_lines, print_line, wide_console, wrapped
from .coco import METRICS, UNDEFINED
from .published_rows import CONDITIONS, PublishedRow
from .score_record import ScoreRecord

METRIC_WIDTH = 6  # a figure and the space before it
SHOWN_CATEGORIES = 5  # best and worst, on a terminal; --json has all
METRIC_NAMES = {
    "AP": "AP, IoU 0.50:0.95",
    "AP50": "AP, IoU 0.50",
    "AP75": "AP, IoU 0.75",
    "APs": "AP, small boxes",
    "APm": "AP, medium boxes",
    "APl": "AP, large boxes",
    "AR1": "AR, 1 detection per image",
    "AR10": "AR, 10 detections per image",
    "AR100": "AR, 100 detections per image",
    "ARs": "AR, small boxes",
    "ARm": "AR, medium boxes",
    "ARl": "AR, large boxes",
}


def figure(value: float | None, digits: int = 4) -> str:
    """A metric; a dash where there is nothing to measure it on."""
    return "-" if value is None or value == UNDEFINED else f"{value:.{digits}f}"


def print_scores(record: ScoreRecord, console: Console | None = None) -> None:
    """An evaluation's record: AP first, the twelve metrics, best and worst categories, and what was skipped."""
    console = console or wide_console()
    total = record.images_in_all
    images = f"{record.images} images" if record.images == total else f"{record.images} of {total} images"
    print_line(console, f"[bold]{record.of}: AP {figure(record.metrics['AP'])}[/bold] on {images}")
    if record.run:
        print_line(console, describe(record.run.conditions))
        if record.run.exported:
            print_line(console, describe_file(record.run.exported))
    for metric in METRICS:
        print_line(console, f"  {METRIC_NAMES[metric]:32} {figure(record.metrics[metric])}")
    measured = {name: value for name, value in record.per_category.items() if value != UNDEFINED}
    ordered = sorted(measured, key=lambda category: -measured[category])
    if len(ordered) > 2 * SHOWN_CATEGORIES:
        for what, names in (("best", ordered[:SHOWN_CATEGORIES]), ("worst", ordered[-SHOWN_CATEGORIES:])):
            line = ", ".join(f"{category} {figure(measured[category], 3)}" for category in names)
            print_line(console, f"{what} categories by AP: {line}")
    if record.run:
        print_line(console, f"{record.run.seconds:.1f} s, {record.images / record.run.seconds:.2f} images/s")
    print_skipped(record, console)


def not_finite_lines(counts: Iterable[int]) -> list[str]:
    """How many detections were left out, by image, in a line; none where there are none."""
    of_images = [count for count in counts if count]
    if not of_images:
        return []
    return [
        f"{sum(of_images)} detections on {len(of_images)} images are left out: their boxes or scores are not finite; "
        "check the weights with `effconv parity`"
    ]


def print_skipped(record: ScoreRecord, console: Console) -> None:
    """Which images could not be read, and what else is left out; last, so that it is seen."""
    for line in not_finite_lines(record.run.not_finite.values() if record.run else ()):
        print_line(console, line)
    for reason in record.skipped.values():
        console.print(f"skipped: {reason}", soft_wrap=keeps_lines(console), markup=False, highlight=False)
    if record.skipped:
        print_line(
            console,
            f"{len(record.skipped)} of {record.images} images skipped; they count as images without detections",
        )


def describe(conditions: Mapping[str, Any]) -> str:
    """What a result was measured under, on one line."""
    return ", ".join(f"{name} {conditions[name]}" for name in CONDITIONS if conditions.get(name) is not None)


def describe_file(exported: Mapping[str, Any]) -> str:
    """Which exported file a result is of, and what ran it, on one line."""
    return (
        f"of {exported['file']} ({exported['precision']}, {exported['input']} images) by {exported['runtime']}; "
        f"detections {exported['detections']}"
    )


def print_published(record: ScoreRecord, console: Console | None = None) -> None:
    """The verdict, then ours, the published and the difference for all twelve metrics, then what else differs."""
    console = console or wide_console()
    assert record.run is not None
    assert record.published is not None
    published = record.published
    colour = {True: "green", False: "red", None: "yellow"}[published.holds]
    console.print(
        f"{record.of}: {published.verdict}", style=f"bold {colour}", soft_wrap=keeps_lines(console), markup=False
    )
    row = f"{published.system}, {published.model}, {published.label} ({published.source})"
    print_line(console, f"published: {row}")
    print_line(console, f"here: {describe(record.run.conditions)}")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("metric", "ours", "published", "difference"):
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for metric, ours, theirs in published.rows:
        gap = "-" if theirs is None or ours == UNDEFINED else f"{ours - theirs:+.4f}"
        table.add_row(METRIC_NAMES[metric], figure(ours), figure(theirs), gap)
    console.print(table)
    for each in published.differences:
        effect = each.known_effect or "the size of its effect is not published"
        name = each.condition
        line = f"{name} ({CONDITIONS[name]}): published {each.published}, here {each.run}; {effect}"
        console.print(line, soft_wrap=keeps_lines(console), markup=False, highlight=False)
    print_skipped(record, console)


def metric_lines(rows: Sequence[PublishedRow], width: int) -> list[str]:
    """Published metrics under their systems, in lines of at most `width` columns: as many metrics as have room."""
    room = width - len(_models_and_splits(rows)[0])
    names = METRICS[: room // METRIC_WIDTH]
    left = METRICS[len(names) :]

    def cells(row: PublishedRow) -> str:
        return "".join(f"{figure(row.metrics.get(name), 3):>{METRIC_WIDTH}}" for name in names)

    lines = _under_systems(rows, "".join(f"{name:>{METRIC_WIDTH}}" for name in names), cells, width)
    return [*lines, f"{', '.join(left)}: in a wider terminal, and in the JSON"] if left else lines


def speed_lines(rows: Sequence[PublishedRow], width: int) -> list[str]:
    """Published speeds under their systems, in lines of at most `width` columns."""

    def cells(row: PublishedRow) -> str:
        return ", ".join(f"{key} {value}" for key, value in row.details["speed"].items() if value is not None)

    return _under_systems(rows, "speed", cells, width)


def _models_and_splits(rows: Sequence[PublishedRow]) -> list[str]:
    """The beginning of a line for the heading, and of one for each row."""
    named = [("model", "split"), *((row.model, str(row.conditions.get("split", "-"))) for row in rows)]
    models, splits = (max(map(len, column)) for column in zip(*named, strict=True))
    return [f"  {model:{models}} {split:{splits}} " for model, split in named]


def _under_systems(
    rows: Sequence[PublishedRow], heading: str, cells: Callable[[PublishedRow], str], width: int
) -> list[str]:
    """A heading, then each system's name and its rows, a row's label under it."""
    first, *beginnings = _models_and_splits(rows)
    lines, system = [first + heading], ""
    for row, beginning in zip(rows, beginnings, strict=True):
        if row.system != system:
            system = row.system
            lines.append(system)
        lines.append(wrapped(beginning + cells(row), len(beginning) - 2, width))
        if row.label:
            lines.append(wrapped(f"    {row.label}", 0, width))
    return lines
