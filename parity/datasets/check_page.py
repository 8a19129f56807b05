"""A check of a dataset as one HTML page without scripts: findings, charts, and some pictures with their boxes."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...version import __version__
from ..rendering.bars import Bar, bars
from ..rendering.html import FAILS, HOLDS, Page, write_page
from .check import DatasetCheck
from .check_text import anchors, bin_names, missed, proposal_line
from .coverage import Coverage, Share
from .dataset import Dataset
from .findings import Finding
from .statistics import Bin, CategoryCount
from .thumbnails import Thumbnail, thumbnails

MOST_ROWS = 100  # of a table or a chart: a page is to stay below a megabyte whatever the dataset


def write_check_page(check: DatasetCheck, dataset: Dataset, path: Path) -> None:
    """Write the page of a check of `dataset`. Raises OutputError where it cannot be written."""
    write_page(check_page(check, thumbnails(dataset, check.findings)), path)


def check_page(check: DatasetCheck, pictures: Sequence[Thumbnail]) -> Page:
    """The page. Names of files and categories are anybody's, and escaped."""
    serious = sum(each.serious for each in check.findings)
    notes = len(check.findings) - serious
    name = f"{Path(check.dataset).resolve().name}, {check.split}"
    counts, (height, width) = check.statistics, check.image_size
    summary = (
        f"{counts.boxes:,} boxes of {_plural(len(counts.categories), 'category', 'categories')} on "
        f"{_plural(counts.images, 'image')}, seen by {check.model} at {width} x {height} pixels. Notes may be as they "
        "should be; what is serious is a fault of the annotations or of a picture."
    )
    parts = [
        *(_finding(each) for each in check.findings),
        f'<section><h2>What there is</h2><div class="charts">{"".join(_charts(check))}</div></section>',
        f"<section><h2>Anchors</h2>{_anchors(check)}</section>",
        f'<section><h2>Some pictures</h2><div class="pictures">{"".join(map(_picture, pictures))}</div></section>',
    ]
    return Page(
        title=f"{name}: {_plural(serious, 'serious finding')}",
        heading=f"{name}, checked",
        verdict=f"{_plural(serious, 'serious finding')}, {_plural(notes, 'note')}",
        state=FAILS if serious else HOLDS,
        explanation=f"<p>{escape(summary)}</p>",
        content="\n".join(parts),
        provenance={
            "dataset": check.dataset,
            "annotations_sha256": check.annotations_sha256,
            "effconv": __version__,
        },
    )


def _finding(finding: Finding) -> str:
    kind = "serious" if finding.serious else "note-worthy"
    title = f"{finding.name}: {finding.count:,} of {finding.total:,} {finding.of}"
    examples = "".join(f"<li>{escape(example.line)}</li>" for example in finding.examples)
    return (
        f'<article class="{kind}"><h3>{escape(title)}</h3><p>{escape(finding.meaning)}; {escape(finding.remedy)}.</p>'
        f"<ul>{examples}</ul></article>"
    )


def _charts(check: DatasetCheck) -> list[str]:
    counts = check.statistics
    frequent = sorted(counts.categories, key=lambda each: -each.boxes)[:MOST_ROWS]
    more = len(counts.categories) - len(frequent)
    beside = f", and {_plural(more, 'more category', 'more categories')}" if more else ""
    return [
        bars(f"boxes by category{beside}", [Bar(each.name, each.boxes, _on_images(each)) for each in frequent]),
        _histogram("boxes by the square root of their area at the model's input, pixels", counts.sizes),
        _histogram("boxes by width / height", counts.aspects),
    ]


def _on_images(each: CategoryCount) -> str:
    return f"{each.boxes:,} on {_plural(each.images, 'image')}"


def _histogram(title: str, counted: tuple[Bin, ...]) -> str:
    named = zip(bin_names(counted), counted, strict=True)
    return bars(title, [Bar(name, each.count, f"{each.count:,}") for name, each in named])


def _anchors(check: DatasetCheck) -> str:
    coverage, proposal = check.coverage, check.proposal
    if coverage is None or proposal is None:
        return "<p>There is no box to learn from.</p>"
    told = (
        f"Anchors of {anchors(coverage)}: {missed(coverage.all)} overlap none by {coverage.iou:g}, so that each "
        "of these is learnt by a single anchor."
    )
    return (
        f'<p>{escape(told)}</p><p>{escape(proposal_line(proposal))}.</p><div class="charts">'
        f"{_shares('boxes that no anchor reaches, by size', coverage.by_size)}"
        f"{_shares('the same, of the worst categories', coverage.worst_categories)}"
        f"{_best_overlaps(coverage)}</div>"
    )


def _shares(title: str, shares: tuple[Share, ...]) -> str:
    rows = [Bar(each.name, each.share, f"{each.not_reached:,} of {each.boxes:,}") for each in shares if each.boxes]
    return bars(title, rows, longest=1.0) if rows else ""


def _best_overlaps(coverage: Coverage) -> str:
    return _histogram("boxes by their best overlap with any anchor", coverage.best_overlaps)


def _picture(each: Thumbnail) -> str:
    caption = escape(f"{each.name}: {_plural(each.boxes, 'box', 'boxes')}")
    return f'<figure><img src="{each.source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
