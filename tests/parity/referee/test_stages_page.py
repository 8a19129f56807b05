"""The page of a port's stages: the first that differs, every figure beside its limit, and what is not in its code."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorded_stages import HOLDING, MEASURED, record_of

from effconv.convert.output_kinds import REPORT
from effconv.parity.referee.compare_stages import StageComparison
from effconv.parity.referee.stages_job import StagesRecord
from effconv.parity.referee.stages_page import write_stages_report


def written(record: StagesRecord, path: Path) -> str:
    write_stages_report(record, path)
    assert REPORT.recognises(path)
    return path.read_text()


def changed(found: StageComparison, stage: str, **more: Any) -> StageComparison:
    return replace(found, rows=tuple(replace(row, **more) if row.stage == stage else row for row in found.rows))


def test_the_first_stage_that_differs_is_in_the_banner_and_its_reasons_below(tmp_path: Path) -> None:
    for found in MEASURED:
        text = written(record_of(found), tmp_path / "x.html")
        wrong = [row for row in found.rows if not row.ok]
        state = "failed" if wrong else "ok" if all(row.there for row in found.rows) else "open"
        assert f'<div class="banner {state}">' in text
        assert text.count('class="failed-text">differs<') == len(wrong)
        assert text.count('class="ok-text">holds<') == sum(row.ok and row.there for row in found.rows)
        assert text.count('<article class="serious">') == len(wrong)
        if wrong:
            assert f"<p>First stage that differs: {wrong[0].stage}</p>" in text
    assert any(not row.ok for found in MEASURED for row in found.rows)


def test_a_port_that_holds(tmp_path: Path) -> None:
    text = written(record_of(HOLDING), tmp_path / "x.html")
    assert '<div class="banner ok">' in text
    assert "First stage that differs" not in text
    assert "What it does otherwise" not in text


def test_a_stage_that_is_not_there_does_not_hold(tmp_path: Path) -> None:
    text = written(record_of(changed(HOLDING, "scale", there=False, differs=None)), tmp_path / "x.html")
    assert '<td>scale</td><td class="open-text">not in its code</td><td class="number">-</td>' in text
    assert text.count('class="ok-text">holds<') == len(HOLDING.rows) - 1
    assert '<div class="banner open">' in text, "half a way is no proof of the whole"
    assert "5 of 6 stages are the official ones; not in its code: scale" in text
    wrong = changed(changed(HOLDING, "scale", there=False, differs=None), "anchors", ok=False, differs=1.0)
    text = written(record_of(wrong), tmp_path / "y.html")
    assert '<div class="banner failed">' in text
    assert "1 of 5 stages differ: anchors; not in its code: scale" in text


def test_values_without_a_difference_are_said_to_be_unlike(tmp_path: Path) -> None:
    unlike = changed(HOLDING, "anchors", ok=False, differs=None, unlike="9 x 4 values, not 18 x 4")
    text = written(record_of(unlike), tmp_path / "x.html")
    assert '<td class="failed-text">differs</td><td class="number">9 x 4 values, not 18 x 4</td>' in text
    assert "No known change comes nearer." in text


def test_names_are_text_and_other_reports_have_the_verdict(tmp_path: Path) -> None:
    hostile = record_of(replace(HOLDING, picture="<script>alert(1)</script>", theirs="<b>port</b>"))
    text = written(hostile, tmp_path / "x.html")
    assert "<script" not in text
    assert "<b>" not in text
    markdown = written(replace(hostile, found=replace(hostile.found, picture="menu\udce9.jpg")), tmp_path / "x.md")
    assert markdown.splitlines()[2] == r"# \<b\>port\</b\>: 6 of 6 stages are the official ones"
    assert r"menu\udce9.jpg (" in markdown, "a name that is not UTF-8"
    assert json.loads(written(hostile, tmp_path / "x.json"))["verdict"] == hostile.verdict
