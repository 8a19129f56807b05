"""A check of a dataset as one HTML page without scripts: findings, charts, and some pictures with their boxes."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...convert.output import replacing
from ...convert.output_kinds import PAGE_MARK
from ...version import __version__
from ..rendering.bars import Bar, bars
from .check import DatasetCheck
from .check_text import anchors, bin_names, missed, proposal_line
from .coverage import Coverage, Share
from .dataset import Dataset
from .findings import Finding
from .statistics import Bin, CategoryCount
from .thumbnails import Thumbnail, thumbnails

MOST_ROWS = 100  # of a table or a chart: a page is to stay below a megabyte whatever the dataset
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c2330; }
h1 { overflow-wrap: anywhere; } h2 { margin-top: 2.5rem; }
article { border-left: 6px solid #d8dde6; padding: .1rem 1rem; margin: 1rem 0; overflow-wrap: anywhere; }
article.serious { border-color: #b3261e; } article.note { border-color: #c99400; }
article h3 { margin: .3rem 0; } article ul { color: #5b6472; }
.good { color: #11734b; } .bad { color: #b3261e; }
.charts, .pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .85rem; color: #5b6472; max-width: 640px; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; } svg text { fill: #1c2330; }
.pictures figure { width: 320px; } .pictures img { max-width: 100%; border: 1px solid #d8dde6; }
footer { color: #5b6472; font-size: .85rem; margin-top: 2rem; overflow-wrap: anywhere; }
"""


def write_check_page(check: DatasetCheck, dataset: Dataset, path: Path) -> None:
    """Write the page of a check of `dataset`. Raises OutputError where it cannot be written."""
    page = check_page(check, thumbnails(dataset, check.findings))
    with replacing(path) as (temporary,):
        temporary.write_text(page, encoding="utf-8")


def check_page(check: DatasetCheck, pictures: Sequence[Thumbnail]) -> str:
    """The page as text. Names of files and categories are anybody's, and escaped."""
    serious = sum(each.serious for each in check.findings)
    title = f"{Path(check.dataset).resolve().name}, {check.split}: {_plural(serious, 'serious finding')}"
    counts, (height, width) = check.statistics, check.image_size
    summary = (
        f"{counts.boxes:,} boxes of {_plural(len(counts.categories), 'category', 'categories')} on "
        f"{_plural(counts.images, 'image')}, seen by {check.model} at {width} x {height} pixels."
    )
    parts = [
        f'<h1 class="{"bad" if serious else "good"}">{escape(title)}</h1><p>{escape(summary)}</p>',
        *(_finding(each) for each in check.findings),
        f'<h2>What there is</h2><div class="charts">{"".join(_charts(check))}</div>',
        f"<h2>Anchors</h2>{_anchors(check)}",
        f'<h2>Some pictures</h2><div class="pictures">{"".join(map(_picture, pictures))}</div>',
        f"<footer>{escape(check.dataset)}, annotations of sha256 {escape(check.annotations_sha256)}; "
        f"effconv {escape(__version__)}.</footer>",
    ]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    body = "\n".join(parts)
    return f'<!doctype html>\n{PAGE_MARK}\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _finding(finding: Finding) -> str:
    kind = "serious" if finding.serious else "note"
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
