"""A verification as one HTML page without scripts: each claim with its figure, its bar and its result, and the
metrics beside those published.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..evaluation.published_rows import VERDICT_LIMIT
from ..limits import FLOAT64_LIMIT
from ..rendering.html import FAILS, HOLDS, OPEN, Page, cell, definitions, table
from .outcome import OUTCOMES


class Claim(NamedTuple):
    """What a step proves where it holds, and what for that is asked of it."""

    claim: str
    bar: str


CLAIMS = {
    "checkpoint": Claim("The checkpoint is a released one.", "the checksum of every tensor"),
    "dataset": Claim("The pictures are judged by COCO's own boxes.", "the sha256 of the annotations"),
    "conversion": Claim("The written weights are the checkpoint's.", "every tensor, bit for bit"),
    "layers": Claim(
        "Every layer computes what TensorFlow's does.",
        f"in float64 {FLOAT64_LIMIT:.0e} of a layer's largest value, in float32 what rounding allows",
    ),
    "metrics": Claim(
        "Its COCO metrics are the published ones.", f"{VERDICT_LIMIT} of each, under the published conditions"
    ),
}


def verification_verdict(record: Mapping[str, Any]) -> tuple[str, str]:
    """What a verification came to, in words and as a state of `Page`."""
    steps: Sequence[Mapping[str, Any]] = record["steps"]
    failed = ", ".join(step["name"] for step in steps if step["holds"] is False)
    unproven = ", ".join(step["name"] for step in steps if step["holds"] is None)
    if failed:
        return f"not verified; steps that do not hold: {failed}", FAILS
    if unproven:
        computed = "its metrics are reproduced" if record["ok"] else "not verified"
        return f"{computed}; steps that are not proven: {unproven}", OPEN
    return "verified: every step holds", HOLDS


def verification_html(record: Mapping[str, Any]) -> Page:
    """The page of a verification's record."""
    verdict, state = verification_verdict(record)
    steps: Sequence[Mapping[str, Any]] = record["steps"]
    proven = sum(step["holds"] is True for step in steps)
    published = record["metrics"]["published"]
    compared = [_metric(row, published["holds"]) for row in published["rows"]]
    head = ("metric", "result", "here", "published", "difference", "allowed")
    about = f"{proven} of {len(steps)} claims are proven."
    if any(step["holds"] is None for step in steps):
        about += " One that is not proven is not refuted either: what would prove it is not known or was not measured."
    return Page(
        title=f"{record['model']}: {verdict}",
        heading=f"{record['model']}, from download to published metrics",
        verdict=verdict,
        state=state,
        explanation=f"<p>{about}</p>",
        content=(
            "<section><h2>Claims</h2>"
            f"{table(('step', 'result', 'claim', 'what was found', 'bar'), [_step(step) for step in steps], 'claims')}"
            f"</section>\n<section><h2>Metrics</h2>{table(head, compared, 'metrics')}</section>\n"
            f"<section><h2>Evaluated with</h2>{definitions(record['metrics']['conditions'])}</section>"
        ),
        provenance=record["provenance"],
    )


def _step(step: Mapping[str, Any]) -> list[str]:
    claim, outcome = CLAIMS[step["name"]], OUTCOMES[step["holds"]]
    return [
        cell(step["name"]),
        cell(*outcome),
        cell(claim.claim, "text"),
        cell(step["verdict"], "text"),
        cell(claim.bar, "text"),
    ]


def _metric(row: Mapping[str, Any], holds: bool | None) -> list[str]:
    """One metric; where conditions differ from the published ones, a small difference proves nothing."""
    ours, theirs = row["ours"], row["published"]
    if theirs is None:
        return [cell(row["metric"]), cell("not published"), cell(f"{ours:.4f}", "number"), *[cell("-", "number")] * 3]
    met = abs(ours - theirs) <= VERDICT_LIMIT
    figures = [f"{ours:.4f}", f"{theirs:.4f}", f"{ours - theirs:+.4f}", f"{VERDICT_LIMIT}"]
    return [
        cell(row["metric"]),
        cell(*OUTCOMES[None if holds is None else met]),
        *(cell(each, "number") for each in figures),
    ]
