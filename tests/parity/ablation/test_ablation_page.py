"""The page of ablations: what it says, and what a browser without a network makes of it."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from browsers import needs_plotly
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


@needs_plotly
def test_every_figure_is_there(record: AblationRecord) -> None:
    rows = _Cells(render_ablation_page(record)).rows[1:]
    assert [row[0] for row in rows] == ["baseline", "costly", "harmless"]
    assert rows[1][1] == f"costly {HOSTILE}"
    assert rows[1][2:14] == ["-" if name == "APl" else "0.3000" for name in METRICS]
    assert rows[1][14:] == ["-0.2000", "-0.2500 to -0.1500", "worse", "50.0"]


@needs_plotly
def test_in_a_browser(record: AblationRecord, browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_ablation_page(record, path)
    context = browser.new_context(offline=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    page.wait_for_selector("#chart .bars .point")
    assert page.locator("#chart .bars .point").count() == 2
    assert page.locator("#chart .errorbar").count() == 2
    names = [text.strip() for text in page.locator("#chart .ytick").all_text_contents()]
    assert sorted(names) == ["costly", "harmless"]
    assert page.evaluate("window.hacked") is None
    assert problems == []
    context.close()


@needs_plotly
def test_the_chart_has_room_for_names_of_any_length(record: AblationRecord) -> None:
    """Changes made together are called by all their names: the room beside the chart is plotly's to measure."""
    page = render_ablation_page(record)
    start = re.search(r'Plotly\.newPlot\(\s*"[-0-9a-f]+",\s*', page)
    assert start
    _, end = json.JSONDecoder().raw_decode(page, start.end())
    layout, _ = json.JSONDecoder().raw_decode(page, page.index("{", end))
    assert layout["yaxis"]["automargin"] is True
    assert layout["template"]["layout"]["xaxis"]["automargin"] is True
    assert layout["margin"] == {"r": 20, "t": 20}  # there is no title, and no name on the right


def test_another_kind_of_file(record: AblationRecord, tmp_path: Path) -> None:
    with pytest.raises(EffconvError, match=r"page\.txt: expected a file ending in \.html"):
        write_ablation_page(record, tmp_path / "page.txt")


def test_without_plotly(record: AblationRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(EffconvError, match=r"needs plotly.*pip install plotly$"):
        write_ablation_page(record, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
