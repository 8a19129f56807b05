"""A check of a dataset as lines of text."""

from ..rendering.markdown import markdown_table
from .check import DatasetCheck
from .findings import Finding
from .statistics import Bin, Statistics

SHOWN = 10  # categories, the most frequent first


def check_lines(check: DatasetCheck) -> list[str]:
    """The whole check: what was found, then what the dataset has."""
    serious = sum(each.serious for each in check.findings)
    notes = len(check.findings) - serious
    counts = check.statistics
    height, width = check.image_size
    return [
        f"{check.dataset}, {check.split}: {counts.boxes} boxes of {len(counts.categories)} categories on "
        f"{counts.images} images; {check.model}'s input is {width} x {height}",
        *(line for finding in check.findings for line in finding_lines(finding)),
        "",
        *statistics_lines(counts),
        "",
        f"{serious} serious {'finding' if serious == 1 else 'findings'}, {notes} {'note' if notes == 1 else 'notes'}",
    ]


def finding_lines(finding: Finding) -> list[str]:
    """One finding: what it is, what it means and what to do, and its first examples."""
    kind = "serious" if finding.serious else "note"
    return [
        "",
        f"{kind}: {finding.name}: {finding.count} of {finding.total} {finding.of}",
        f"  {finding.meaning}; {finding.remedy}",
        *(f"    {example.line}" for example in finding.examples),
    ]


def statistics_lines(counts: Statistics) -> list[str]:
    """Counts by category, the largest first, then sizes and aspects when resized."""
    ordered = sorted(counts.categories, key=lambda each: -each.boxes)
    rows = [(each.name, each.id, each.boxes, each.images) for each in ordered[:SHOWN]]
    more = len(ordered) - SHOWN
    return [
        markdown_table(("category", "id", "boxes", "images"), rows),
        *([f"and {more} more categories"] if more > 0 else []),
        "",
        f"boxes by the square root of their area when resized, pixels: {_bins(counts.sizes)}",
        f"boxes by width / height: {_bins(counts.aspects)}",
    ]


def _bins(bins: tuple[Bin, ...]) -> str:
    ends = [f"-{each.least:g}" for each in bins[1:]] + [" and more"]
    return ", ".join(f"{each.least:g}{end}: {each.count}" for each, end in zip(bins, ends, strict=True) if each.count)
