"""A comparison from bytes to detections as a report: a page of HTML without scripts, Markdown or JSON."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...convert.output_kinds import PAGE_MARK
from ...effdet_torch.categories import category_name
from ...effdet_torch.config import Config
from ...strict_json import json_text
from ..reference.pipeline import OfficialDetections
from ..rendering.html import FAILS, HOLDS, Page, cell, definitions, table, write_page
from ..rendering.markdown import markdown_text, write_text_report
from ..rendering.record import write_record
from .end_to_end import ImageResult
from .end_to_end_job import EndToEndComparison
from .end_to_end_pictures import MOST_MARKED, SHOWN_SCORE, Compared, Drawing, compared_pictures
from .end_to_end_record import EndToEndRecord, counted_images, end_to_end_lines
from .end_to_end_stages import STAGES, Measured, Stage
from .object_differences import box_text
from .records import Side
from .report import require_report_kind, side_line

MOST_PICTURES = 8  # images shown, those that differ first
MOST_ALIKE = 3  # of them, images in which nothing differs
ROOM = 700_000  # bytes of all pictures in the page, which is to stay below a megabyte
LISTS = {
    "identical": "The final lists hold the same objects in the same order.",
    "explained": "The final lists differ where rounding decides between equals.",
    "unexplained": "The final lists differ, and rounding does not explain it.",
}


def write_end_to_end_report(compared: EndToEndComparison, path: Path) -> None:
    """The comparison as HTML, Markdown or JSON, by the file's ending. Raises EffconvError."""
    require_report_kind(path)
    if path.suffix == ".html":
        write_page(end_to_end_page(compared.record, compared.results, chosen_pictures(compared), compared.config), path)
    elif path.suffix == ".json":
        write_record(compared.record.plain(), path)
    else:
        write_text_report(path, end_to_end_markdown(compared.record))


def chosen_pictures(compared: EndToEndComparison) -> list[Compared]:
    """Images that do not hold, others with a difference, and some without any: as many as a page has room for."""
    order = sorted(range(len(compared.results)), key=lambda place: _rank(compared.results[place]))
    differing = sum(_rank(each) < 2 for each in compared.results)
    made: list[Compared] = []
    used = 0
    for place in order[: min(MOST_PICTURES, differing + MOST_ALIKE)]:
        picture = compared_pictures(compared.images[place][1](), compared.results[place], compared.config)
        used += len(picture.official.source) + len(picture.ours.source)
        if used > ROOM:
            break
        made.append(picture)
    return made


def _rank(result: ImageResult) -> int:
    """0: a stage does not hold; 1: the lists are not identical; 2: nothing differs."""
    if not result.holds:
        return 0
    return 2 if result.lists == "identical" else 1


def end_to_end_page(
    record: EndToEndRecord, results: Sequence[ImageResult], pictures: Sequence[Compared], config: Config
) -> Page:
    """The page. Names of files and categories are anybody's, and escaped."""
    row, found = record.row, record.row.found
    left_out = sum(_rank(each) < 2 for each in results) - sum(_rank(each.result) < 2 for each in pictures)
    more = (
        f"<p>Of {counted_images(left_out)} more with a difference there is no room for pictures.</p>"
        if left_out
        else ""
    )
    counted = definitions(
        {
            "images": found.images,
            "with identical lists": found.lists.identical,
            "where rounding decides between equals": found.lists.explained,
            "with lists that nothing explains": found.lists.unexplained,
            "matched one to one": f"{found.matched} of {found.detections} detections",
            "at another place of the list": found.in_another_place,
            "largest difference of a matched score": f"{found.largest_score_gap:.2g}",
            "largest difference of a matched box": f"{found.largest_box_gap:.2g} of its longer side",
        }
    )
    head = ("stage", "outcome", "differs by", "allowed", "of what", "images that hold")
    lines = [_stage_line(name, [stage for each in results for stage in each.stages if stage.name == name])
             for name in STAGES]  # fmt: skip
    told = (
        f"Objects in the picture are drawn from a score of {SHOWN_SCORE:g} up, and all that differ, "
        f"up to {MOST_MARKED} of a picture: those have a dashed band and a number."
    )
    sections = "\n".join(_section(number, each, config) for number, each in enumerate(pictures, 1))
    return Page(
        title=f"{row.model}: from bytes to detections",
        heading=f"{row.model}, from bytes to detections",
        verdict=found.verdict,
        state=HOLDS if found.ok else FAILS,
        explanation=_meaning(record, pictures),
        content=(
            f"<section><h2>Stages</h2>{table(head, lines, 'stages')}</section>\n"
            f"<section><h2>Detections</h2>{counted}</section>\n"
            f'<section><h2>Side by side</h2><p class="note">{told}</p>{more}</section>\n{sections}\n'
            f"<section><h2>What was compared</h2>"
            f"{definitions({'reference': row.reference.plain(), 'candidate': row.candidate.plain()})}</section>"
        ),
        provenance=record.provenance,
    )


def _meaning(record: EndToEndRecord, pictures: Sequence[Compared]) -> str:
    row, found = record.row, record.row.found
    parts = [f"<p>{escape(row.candidate.label)} beside {escape(row.reference.label)}.</p>"]
    if found.ok:
        parts.append(
            "<p>Fed with the same values both sides agree at every stage; fed with their own they find the same "
            "objects, or other ones only where scores are nearer to each other than rounding.</p>"
        )
    elif pictures and not pictures[0].result.holds:
        name = escape(pictures[0].result.image)
        stage = next(each.name for each in pictures[0].result.stages if not each.holds)
        parts.append(f'<p>First shown: <a href="#picture-1">{name}</a>, which differs from stage {stage} on.</p>')
    return "\n".join(parts)


def _stage_line(name: str, stages: Sequence[Stage]) -> list[str]:
    """A stage over all images: the largest difference, beside what that image's may be."""
    held = sum(each.holds for each in stages)
    measured = [each.measured for each in stages if each.measured]
    worst = max(measured, key=_excess, default=None)
    if worst and (held == len(stages) or worst.differs > worst.limit):
        figures = [cell(_figure(worst.differs), "number"), cell(_figure(worst.limit), "number"), cell(worst.what)]
    else:  # what failed has no figure
        figures = [cell("not comparable" if stages else "-", "number"), cell("-", "number"), cell("")]
    outcome = _outcome(held == len(stages)) if stages else cell("not looked at", "open-text")
    return [cell(name), outcome, *figures, cell(f"{held} of {len(stages)}", "number")]


def _excess(each: Measured) -> tuple[bool, float]:
    """By what the worst of several images is chosen; what failed may be of another kind than what others measured."""
    return each.differs > each.limit, each.differs / each.limit if each.limit else each.differs


def _outcome(holds: bool) -> str:
    return cell("holds", "ok-text") if holds else cell("does not hold", "failed-text")


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "not a number"
    return f"{value:,.0f}" if value.is_integer() else f"{value:.2g}"


def _section(number: int, each: Compared, config: Config) -> str:
    """One image: both pictures, the objects that differ, and its stages, unfolded where one does not hold."""
    result = each.result
    stages = table(
        ("stage", "outcome", "what was found"),
        [[cell(stage.name), _outcome(stage.holds), cell(stage.verdict, "text")] for stage in result.stages],
    )
    unfolded = "" if result.holds else " open"
    pictures = _figure_of("TensorFlow", each.official) + _figure_of("effconv", each.ours)
    return (
        f'<section id="picture-{number}"><h2>{escape(result.image)}</h2><p>{LISTS[result.lists]}</p>'
        f'<div class="compared">{pictures}</div>{_differences(each, config)}'
        f"<details{unfolded}><summary>Stages of this image</summary>{stages}</details></section>"
    )


def _figure_of(name: str, side: Drawing) -> str:
    caption = f"{name}: {side.drawn} of {side.of} objects drawn"
    return f'<figure><figcaption>{caption}</figcaption><img src="{side.source}" alt="{caption}"></figure>'


def _differences(each: Compared, config: Config) -> str:
    result = each.result
    if not each.differences:
        moved = sum(one != other for one, other in result.pairing.pairs)
        place = f" {moved} stand at another place of the list." if moved else ""
        return f"<p>No object differs.{place}</p>"
    rows = [
        [
            cell(number, "number"),
            cell(found.kind),
            cell(_object(result.official, found.official, config)),
            cell(_object(result.ours, found.ours, config)),
            cell(box_text(found)),
        ]
        for number, found in enumerate(each.differences[:MOST_MARKED], 1)
    ]
    more = len(each.differences) - len(rows)
    rest = f'<p class="note">And {more} more, of lower scores.</p>' if more else ""
    limit = f"Scores of the same object may differ by {result.score_limit:.2g}."
    listed = table(("no.", "what differs", "TensorFlow", "effconv", "boxes"), rows)
    return f'{listed}{rest}<p class="note">{limit}</p>'


def _object(side: OfficialDetections, place: int | None, config: Config) -> str:
    if place is None:
        return "-"
    return f"{category_name(int(side.categories[place]), config)} {side.scores[place]:.4f}"


def end_to_end_markdown(record: EndToEndRecord) -> str:
    """The comparison as Markdown: the verdict, what was compared, stages, images that differ, provenance."""
    lines = end_to_end_lines(record)
    sides: dict[str, Side] = {"reference": record.row.reference, "candidate": record.row.candidate}
    return "\n".join(
        [
            PAGE_MARK,
            "",
            f"# {markdown_text(lines[0])}",
            "",
            *(f"- {name}: {side_line(side)}" for name, side in sides.items()),
            *(f"- {markdown_text(line.strip())}" for line in lines[1:]),
            "",
            "```json",
            json_text(record.provenance, indent=1),
            "```",
            "",
        ]
    )
