"""A check of a dataset as lines of text."""

from itertools import pairwise

from ..rendering.markdown import markdown_table
from .anchor_proposal import Proposal
from .check import DatasetCheck
from .coverage import Coverage, Share
from .findings import Finding
from .statistics import Bin, Statistics

SHOWN = 10  # categories, the most frequent first


def check_lines(check: DatasetCheck) -> list[str]:
    """The whole check: the verdict, what was found, then what the dataset has."""
    serious = sum(each.serious for each in check.findings)
    notes = len(check.findings) - serious
    counts = check.statistics
    height, width = check.image_size
    return [
        f"{check.dataset}, {check.split}: {serious} serious {'finding' if serious == 1 else 'findings'}, "
        f"{notes} {'note' if notes == 1 else 'notes'}",
        f"{counts.boxes} boxes of {len(counts.categories)} categories on {counts.images} images; "
        f"{check.model}'s input is {width} x {height}",
        *(line for finding in check.findings for line in finding_lines(finding)),
        "",
        *statistics_lines(counts),
        "",
        *coverage_lines(check.coverage, check.proposal),
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


def coverage_lines(coverage: Coverage | None, proposal: Proposal | None) -> list[str]:
    """How the anchors reach the boxes, and which would reach more."""
    if coverage is None or proposal is None:
        return ["no box to learn from, so nothing is said about anchors"]
    worst = ", ".join(missed(each) for each in coverage.worst_categories)
    return [
        f"anchors of {anchors(coverage)}: {missed(coverage.all)} overlap none of them by {coverage.iou:g}; "
        f"mean best overlap {coverage.all.mean_best:.3f}",
        f"  {', '.join(missed(each) for each in coverage.by_size if each.boxes)}",
        *([f"  worst: {worst}"] if worst else []),
        proposal_line(proposal),
    ]


def proposal_line(proposal: Proposal) -> str:
    """What was tried in place of the model's anchors, and what it gains."""
    if not proposal.gains:
        return "no other aspects or scale of those tried reach more boxes"
    found = (
        f"proposed: {anchors(proposal)}: {_part(proposal.not_reached, proposal.boxes)} overlap none; "
        f"mean best overlap {proposal.mean_best:.3f}"
    )
    other = proposal.not_reached_in_other_half
    if other is None:
        return found
    return f"{found}; chosen on half of the images and measured on the other half: {_part(other, proposal.boxes)}"


def anchors(choice: Coverage | Proposal) -> str:
    """Aspects and scale in words."""
    return f"aspects {', '.join(f'{each:g}' for each in choice.aspect_ratios)} and scale {choice.anchor_scale:g}"


def missed(share: Share) -> str:
    """How many of some boxes are not reached."""
    return f"{share.name} {_part(share.not_reached, share.boxes)}"


def _part(count: int, total: int) -> str:
    return f"{count} of {total} ({100 * count / total:.1f} %)"


def bin_names(bins: tuple[Bin, ...]) -> list[str]:
    """What is in each bin, such as 2-4; the last has no end."""
    return [f"{one.least:g}-{after.least:g}" for one, after in pairwise(bins)] + [f"{bins[-1].least:g} and more"]


def _bins(bins: tuple[Bin, ...]) -> str:
    return ", ".join(f"{name}: {each.count}" for name, each in zip(bin_names(bins), bins, strict=True) if each.count)
