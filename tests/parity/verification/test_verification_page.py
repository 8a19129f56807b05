"""The page of a verification: each claim with its figure, bar and result; only what is proven is shown as proven."""

import re
from pathlib import Path

import pytest
from verification_runs import STEPS, verification

from effconv.convert.output_kinds import REPORT
from effconv.parity.rendering.html import FAILS, HOLDS, OPEN, render, write_page
from effconv.parity.verification.verification_page import CLAIMS, verification_html, verification_verdict


def results(text: str, table: str) -> dict[str, str]:
    """Of each row of a table, its first cell and the one that has an outcome's class."""
    (body,) = re.findall(rf'<table id="{table}">.*?<tbody>(.*?)</tbody>', text, re.DOTALL)
    rows = {}
    for row in body.split("</tr>")[:-1]:
        name = re.findall(r"<td>([^<]+)</td>", row)[0]
        rows[name] = "".join(re.findall(r'<td class="(?:ok|failed|open)-text">([^<]+)</td>', row))
    return rows


def test_every_claim_has_its_figure_and_its_bar() -> None:
    text = render(verification_html(verification({})))
    assert '<div class="banner ok">' in text
    assert "verified: every step holds" in text
    assert "5 of 5 claims are proven" in text
    assert results(text, "claims") == dict.fromkeys(STEPS, "holds")
    for step in STEPS:
        assert f'<td class="text">found of {step}</td>' in text
        assert f'<td class="text">{CLAIMS[step].bar.replace(chr(39), "&#x27;")}</td>' in text
    figures = "".join(f'<td class="number">{each}</td>' for each in ("0.3431", "0.3430", "+0.0001", "0.001"))
    assert f'<td>AP</td><td class="ok-text">holds</td>{figures}' in text
    assert results(text, "metrics") == {"AP": "holds", "APl": "does not hold", "APs": ""}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("holds", "said", "state"), [(False, "does not hold", FAILS), (None, "not proven", OPEN)])
def test_what_is_not_proven_is_never_shown_as_proven(step: str, holds: bool | None, said: str, state: str) -> None:
    record = verification({step: holds})
    text = render(verification_html(record))
    assert verification_verdict(record)[1] == state
    assert f'<div class="banner {state}">' in text
    assert "every step holds" not in text
    assert step in verification_verdict(record)[0]
    assert "4 of 5 claims are proven" in text
    assert results(text, "claims") == {**dict.fromkeys(STEPS, "holds"), step: said}
    if step == "metrics" and holds is None:
        assert results(text, "metrics") == {"AP": said, "APl": said, "APs": ""}


def test_verdicts() -> None:
    assert verification_verdict(verification({})) == ("verified: every step holds", HOLDS)
    reproduced = "its metrics are reproduced; steps that are not proven: checkpoint, dataset"
    assert verification_verdict(verification({"checkpoint": None, "dataset": None})) == (reproduced, OPEN)
    nothing = "not verified; steps that are not proven: metrics"
    assert verification_verdict(verification({"metrics": None})) == (nothing, OPEN)
    failed = "not verified; steps that do not hold: layers"
    assert verification_verdict(verification({"layers": False, "metrics": None})) == (failed, FAILS)


def test_the_page_is_a_report_of_ours_and_its_text_is_text(tmp_path: Path) -> None:
    write_page(verification_html(verification({}, model="<script>alert(1)</script>")), tmp_path / "x.html")
    assert REPORT.recognises(tmp_path / "x.html")
    assert "<script" not in (tmp_path / "x.html").read_text()
