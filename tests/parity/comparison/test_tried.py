"""Which known mistakes were tried in vain or not at all, and how the record, the page and the terminal say so."""

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from effconv.convert.layers import layers
from effconv.parity.comparison.compare import compare_in_turn, precisions
from effconv.parity.comparison.explain import Explained, explain
from effconv.parity.comparison.page import render_page
from effconv.parity.comparison.records import ComparisonRecord, TriedRow
from effconv.parity.comparison.report import comparison_markdown, print_comparison
from effconv.parity.comparison.tried import (
    HELPS_LESS,
    NO_EFFECT,
    NOT_TRIED,
    SMALLER,
    WORSE,
    Place,
    excluded_line,
    left_out,
    outcome,
    worth_trying,
)
from effconv.parity.mistakes.network import CHANGES, changed
from effconv.parity.traces.candidate_trace import CandidateTrace
from effconv.parity.traces.images import noise
from effconv.strict_json import as_read
from page_record import BROKEN, make_record
from tensors import config_of
from tiny_models import load_tiny

TINY = Path(__file__).parents[2] / "golden" / "tiny-swish"
ORDER = {layer.key: index for index, layer in enumerate(layers(config_of(TINY)))}
BEFORE = Place("backbone.stem.norm", 1e-3)


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (BEFORE, BEFORE, NO_EFFECT),
        (BEFORE, BEFORE._replace(error=1.005e-3), NO_EFFECT),
        (BEFORE, BEFORE._replace(error=1.1e-3), WORSE),
        (BEFORE, BEFORE._replace(error=0.9e-3), SMALLER),
        (BEFORE, BEFORE._replace(error=math.nan), WORSE),
        (BEFORE._replace(error=math.inf), BEFORE._replace(error=math.inf), NO_EFFECT),
        (BEFORE, Place("backbone.stem.conv", 1e-5), WORSE),
        (BEFORE._replace(layer="backbone.stem.conv"), BEFORE, HELPS_LESS),
        (None, BEFORE, WORSE),
    ],
)
def test_an_effect_is_of_the_layer_first_and_of_the_error_then(before: Place | None, after: Place, effect: str) -> None:
    assert outcome(CHANGES["no-skip"], "reference", before, after, ORDER).effect == effect


@pytest.fixture(scope="module")
def found() -> Explained:
    """Of a candidate with PyTorch's epsilon, whose first difference is early, so that few mistakes can be the cause."""
    clean = load_tiny(TINY)
    trace = CandidateTrace(clean, noise(0, (64, 64)), {})
    faulty = changed(clean, CHANGES["batch-norm-epsilon"])
    first = next(row for row in compare_in_turn(trace, precisions(faulty), "local") if not row.ok)
    return explain(trace, faulty, clean, first)


def test_every_known_mistake_is_accounted_for(found: Explained) -> None:
    assert [each.change for each in found.explanations] == ["batch-norm-epsilon"]
    assert {each.change for each in found.tried} == set(CHANGES)
    of = {(each.change, each.side): each for each in found.tried}
    assert len(of) == len(found.tried)
    tried = {change for change, side in of if side}
    config = config_of(TINY)
    assert tried == {each.name for each in worth_trying([*CHANGES.values()], config, BEFORE.layer, ORDER)}
    assert {(change, side) for change, side in of if side} == {
        (change, side) for change in tried for side in ("reference", "candidate")
    }
    explains = of["batch-norm-epsilon", "candidate"]
    assert (explains.effect, explains.layer, explains.error, explains.reason) == ("explains", None, None, "")
    # Made to the candidate, which makes it already, it changes nothing; another is seen before, or adds to it.
    none = of["batch-norm-epsilon", "reference"]
    assert (none.effect, none.layer) == (NO_EFFECT, "backbone.stem.norm")
    channels = of["swapped-input-channels", "candidate"]
    assert (channels.effect, channels.layer) == (WORSE, "backbone.stem.conv")
    assert none.error
    assert channels.error
    assert channels.error > 0.1 > none.error > 1e-5


def test_what_was_not_tried_says_why(found: Explained) -> None:
    reasons = {each.change: each.reason for each in found.tried if each.effect == NOT_TRIED}
    assert reasons["swish-activation"] == "tiny-swish has no layer that it changes"
    assert reasons["xyxy-box-codes"] == "it shows from box_head.predict[3] on, after the first difference"
    assert all(reasons.values())


def short_record() -> dict[str, Any]:
    record = make_record()
    return record | {"rows": record["rows"][BROKEN : BROKEN + 2], "backward": []}


def with_tried(found: Explained, explained: bool = True) -> ComparisonRecord:
    plain: dict[str, Any] = short_record() | {"tried": [each.plain() for each in found.tried]}
    if not explained:
        plain["explanations"] = []
    return ComparisonRecord.read(as_read(plain))


def test_records_of_before_are_read_and_stay_as_they_are(found: Explained) -> None:
    record = with_tried(found)
    assert [*record.tried] == [*found.tried]
    assert as_read(record.plain())["tried"] == [each.plain() for each in found.tried]
    old = short_record()
    assert ComparisonRecord.read(old).tried == ()
    assert "tried" not in ComparisonRecord.read(old).plain()
    assert excluded_line(ComparisonRecord.read(old)) == ""
    assert 'id="excluded"' not in render_page(ComparisonRecord.read(old))


def test_the_terminal_and_markdown_say_how_many(found: Explained) -> None:
    tried = {each.change for each in found.tried if each.effect != NOT_TRIED}
    counts = (
        f"{len(tried) - 1} other known mistakes were tried and excluded; {len(CHANGES) - len(tried)} were not tried."
    )
    record = with_tried(found)
    console = Console(width=200, record=True, file=io.StringIO())
    print_comparison(record, False, console)
    assert console.export_text().splitlines()[-1].strip() == counts
    assert f"- {counts}" in comparison_markdown(record).splitlines()
    vain = excluded_line(with_tried(found, explained=False))
    assert vain == (
        f"not explained: {len(tried)} known mistakes were tried, and none of them, made on either side, moves the "
        f"first difference; {len(CHANGES) - len(tried)} were not tried."
    )


def test_the_page_lists_them_folded_below_the_explanations(found: Explained) -> None:
    for explained in (True, False):
        text = render_page(with_tried(found, explained))
        section = text[text.index('id="explanations-title"') :]
        folded = section[
            section.index("<details><summary>The other known mistakes</summary>") : section.index("</details>")
        ]
        changes = re.findall(r"<tr><td>([a-z0-9-]+)</td>", folded)
        excluded = [each for each in found.tried if not explained or each.change != "batch-norm-epsilon"]
        assert changes == [each.change for each in excluded]
        assert "not tried: it shows from box_head.predict[3] on" in folded
        assert ('<table id="explanations"' in section) is explained


def test_what_cannot_be_compared_has_no_figure(found: Explained) -> None:
    row = outcome(CHANGES["no-skip"], "candidate", BEFORE, BEFORE._replace(error=math.inf), ORDER)
    assert row.error is None
    assert TriedRow.read(as_read(row.plain())) == row
    assert "not comparable" in render_page(with_tried(Explained((), [row])))


def test_where_one_side_was_tried_that_side_is_named() -> None:
    """A wrong reference beside a candidate that has the checkpoint's own weights: only the candidate is changed."""
    clean = load_tiny(TINY)
    other = load_tiny(TINY)
    kernel = other.backbone.stem.conv.weight  # type: ignore[union-attr]
    kernel.data = kernel.data.roll(1, 0)
    trace = CandidateTrace(other, noise(0, (64, 64)), {})
    first = next(row for row in compare_in_turn(trace, precisions(clean), "local") if not row.ok)
    record = with_tried(explain(trace, clean, clean, first), explained=False)
    assert {each.side for each in record.tried if each.side} == {"reference"}
    assert ", made on effconv's side, moves the first difference; " in excluded_line(record)


@pytest.mark.parametrize(
    ("whole", "why"), [(True, "nothing was left to explain"), (False, "none could be the cause of what is left")]
)
def test_nothing_tried_in_vain_says_so(found: Explained, whole: bool, why: str) -> None:
    spared = [left_out(change, "") for change in CHANGES.values() if change.name != "batch-norm-epsilon"]
    record = with_tried(Explained((), spared))
    explanations = [replace(each, explains=whole) for each in record.explanations]
    line = excluded_line(replace(record, explanations=explanations))
    assert line == f"{len(CHANGES) - 1} other known mistakes were not tried: {why}."


def test_what_moves_the_difference_on_is_not_called_excluded(found: Explained) -> None:
    less = outcome(CHANGES["no-skip"], "candidate", BEFORE._replace(layer="backbone.stem.conv"), BEFORE, ORDER)
    record = with_tried(Explained((), [less]))
    assert excluded_line(record) == "1 other known mistake was tried and would help less."
    assert "<td>helps less</td>" in render_page(record)


@pytest.mark.parametrize("explained", [True, False])
def test_the_page_says_what_was_made_alone(found: Explained, explained: bool) -> None:
    made = "Each known mistake that could be the cause was made alone, and the comparison run again; the others are "
    text = render_page(with_tried(found, explained))
    assert made in text
    assert "not listed" not in text
    nothing = Explained((), [left_out(change, "no layer differs") for change in CHANGES.values()])
    assert made not in render_page(with_tried(nothing, explained=False))
