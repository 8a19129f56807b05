"""The page of ablations: what it says, and what a browser without a network makes of it."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from effconv.errors import EffconvError
from effconv.parity.ablation.page import render_ablation_page, write_ablation_page
from effconv.parity.ablation.record import AblationRecord, AblationRow, Subject
from effconv.parity.ablation.significance import Interval
from effconv.parity.evaluation.coco import METRICS

ROWS = (("baseline", 0.0, 0.0, 0.0), ("costly", -0.2, -0.25, -0.15), ("harmless", 0.001, -0.01, 0.01))
HOSTILE = "</script><script>window.hacked=1</script>"


@pytest.fixture
def record() -> AblationRecord:
    def row(name: str, difference: float, low: float, high: float) -> AblationRow:
        cost = Interval(difference, low, high, 0.5, "worse" if high < 0 else "no effect")
        return AblationRow(
            name=name,
            stage=None if name == "baseline" else "network",
            summary=f"{name} {HOSTILE}",
            published=(),
            metrics={metric: -1.0 if metric == "APl" else 0.5 + difference for metric in METRICS},
            differences=dict.fromkeys(METRICS, cost),
            network_seconds_per_image=0.02,
            decode_seconds_per_image=0.01,
        )

    subject = Subject(
        command="effconv ablate",
        model="tiny",
        checkpoint="tiny",
        baseline={},
        images=9,
        dataset_faults={},
        provenance={"effconv": "0", "versions": {"torch": "2"}},
    )
    rows = tuple(row(*each) for each in ROWS)
    return AblationRecord(subject=subject, resamples=50, seed=0, processes=1, rows=rows)


class _Cells(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        self.inside = tag == "td"
        if self.inside:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def test_every_figure_is_there(record: AblationRecord) -> None:
    rows = _Cells(render_ablation_page(record)).rows[1:]
    assert [row[0] for row in rows] == ["baseline", "costly", "harmless"]
    assert rows[1][-1] == f"costly {HOSTILE}"
    assert rows[1][1:4] == ["worse", "-0.2000", "-0.2500 to -0.1500"]
    assert rows[1][4:-1] == [*("-" if name == "APl" else "0.3000" for name in METRICS), "50.0"]


def test_in_a_browser(record: AblationRecord, browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_ablation_page(record, path)
    context = browser.new_context(offline=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    assert page.locator(".effects .row:visible .name, .effects .name:visible").all_text_contents() == ["costly"]
    assert page.locator(".effects .verdict:visible").all_text_contents() == ["worse"]
    folded = page.locator("details.folded summary")
    assert folded.text_content() == "1 with no effect that could be told from chance: harmless"
    folded.click()
    assert page.locator(".effects .name:visible").all_text_contents() == ["costly", "harmless"]
    # Bars begin at 0 and end at the difference; the interval is where its figures are on the same axis.
    track, length, interval, zero = (
        page.locator(f".effects .worse {each}").bounding_box() for each in (".track", ".length", ".interval", ".zero")
    )
    scale = track["width"] / 0.26  # the axis is from the lowest end of any interval, -0.25, to the highest, 0.01
    assert length["width"] == pytest.approx(0.2 * scale, abs=1)
    assert length["x"] + length["width"] == pytest.approx(zero["x"], abs=1.5)
    assert interval["x"] == pytest.approx(track["x"], abs=1)
    assert interval["width"] == pytest.approx(0.1 * scale, abs=1)
    assert page.evaluate("window.hacked") is None
    assert problems == []
    context.close()


def test_the_largest_effects_are_first_and_the_banner_names_the_worst(record: AblationRecord) -> None:
    costly, harmless = record.changed
    better = replace(costly, name="better", differences={"AP": Interval(0.3, 0.2, 0.4, 0.01, "better")})
    page = render_ablation_page(replace(record, rows=(record.baseline, harmless, costly, better)))
    assert page.index('class="name">better') < page.index('class="name">costly') < page.index('class="folded"')
    assert "3 changes: 1 worse, 1 no effect, 1 better; the most costly is costly, -0.2000 AP" in page


def test_another_kind_of_file(record: AblationRecord, tmp_path: Path) -> None:
    with pytest.raises(EffconvError, match=r"page\.txt: expected a file ending in \.html"):
        write_ablation_page(record, tmp_path / "page.txt")
