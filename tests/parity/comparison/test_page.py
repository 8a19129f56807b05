"""The HTML page of a layer-by-layer comparison: driven in a headless browser that has no network."""

import base64
import json
import math
import random
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from effconv.convert.output import OutputError
from effconv.parity.comparison import page as page_module
from effconv.parity.comparison.page import write_page
from effconv.parity.comparison.records import ComparisonRecord, Heat
from page_layout import MEGABYTE
from page_record import BROKEN, LAYERS, check, make_record

NOTHING = "\N{EN DASH}"  # what a cell without a figure shows
HOSTILE = "</script><script>window.hacked=1</script><b>bold</b>"
# Where on the screen a figure of layer 150 is drawn.
PLACE = """y => { const plot = document.getElementById("growth"), box = plot.getBoundingClientRect();
const [left, top] = plot.toPixels(150, y); return [box.x + left, box.y + top]; }"""
APART = """[0, 1].map((at) => document.getElementById("growth").toPixels(at, 0)[0]).reduce((from, to) => to - from)"""
ERROR = "float32 accumulated error"  # the data-column of that column


@pytest.fixture
def record() -> dict[str, Any]:
    """A comparison of a D0 in which one layer differs."""
    return make_record()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """`opened(record)`: its page in a browser without network; at the end, nothing was asked for and nothing failed."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page, asked, faults = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    path = tmp_path / "page.html"

    def open_page(record: dict[str, Any]) -> Any:
        write_page(ComparisonRecord.read(record), path)
        page.goto(path.as_uri())
        page.wait_for_function("document.getElementById('growth').data !== undefined")
        return page

    yield open_page
    context.close()
    assert faults == []
    # An address of the page's own data is not a request; a picture of a heat map is one.
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


def column(page: Any, key: str) -> list[str]:
    """The text of one column of the table of layers, as shown."""
    return page.locator(f'#layers tbody td[data-column="{key}"]').all_text_contents()


def plot_data(page: Any, name: str) -> Any:
    """The series that a plot was drawn with."""
    return page.evaluate("name => JSON.parse(JSON.stringify(document.getElementById(name).data))", name)


def test_page_opens_with_the_verdict_and_the_first_failure(opened: Any, record: dict[str, Any]) -> None:
    page = opened(record)
    assert page.text_content("#verdict") == record["verdict"]
    assert page.get_attribute("#verdict", "data-ok") == "failed"
    assert page.text_content("#detail-title") == record["first_failure"]
    for said in ("TensorFlow 2.21.0, official computation", "effconv 0.1, torch 2.13.0", "noise, seed 0"):
        assert said in page.text_content("#sides")
    assert "effconv parity --layerwise --model d0" in page.text_content("#provenance")
    assert page.locator("#explanations tbody tr").count() == 2
    assert page.locator("#backward tbody tr").count() == 30
    page.check("#backward-failing")
    assert page.locator("#backward tbody tr").count() == 1


def test_table_sorts_by_number_in_both_directions_and_puts_nothing_last(opened: Any, record: dict[str, Any]) -> None:
    record["rows"][9]["checks"]["float32 accumulated"]["error"] = None
    record["rows"][3]["checks"]["float32 accumulated"]["error"] = 10.0
    page = opened(record)
    given = column(page, ERROR)
    head = page.locator(f'#layers th[data-column="{ERROR}"]')
    for direction in ("ascending", "descending"):
        head.locator("button").press("Enter")  # the keyboard is enough
        assert head.get_attribute("aria-sort") == direction
        shown = column(page, ERROR)
        assert shown != given
        assert shown[-1] == NOTHING
        figures = [float(text) for text in shown[:-1]]
        assert figures == sorted(figures, reverse=direction == "descending")
    assert column(page, "index")[0] == "3"
    page.click('#layers th[data-column="index"] button')
    assert [int(text) for text in column(page, "index")] == list(range(LAYERS))
    page.click('#layers th[data-column="layer"] button')
    names = column(page, "layer")
    assert names.index("backbone.blocks.2.expand.1") < names.index("backbone.blocks.10.expand.0")


def test_filter_and_only_failing_leave_the_rows_they_name(opened: Any, record: dict[str, Any]) -> None:
    record["rows"][200] |= {"ok": False, "fault": "NaN in the candidate"}
    page = opened(record)
    page.fill("#layers-filter", "blocks.7 EXPAND")
    shown = column(page, "layer")
    assert shown == [row["layer"] for row in record["rows"] if "blocks.7.expand" in row["layer"]]
    assert page.text_content("#layers-count") == f"{len(shown)} of {LAYERS}"
    page.fill("#layers-filter", "")
    page.check("#layers-failing")
    assert column(page, "index") == [str(BROKEN), "200"]
    page.fill("#layers-filter", "nan in")
    assert column(page, "index") == ["200"]
    assert column(page, "ok") == ["failed"]


def test_a_click_on_a_row_shows_that_layers_figures_and_plots(opened: Any, record: dict[str, Any]) -> None:
    page = opened(record)
    before = page.evaluate("document.getElementById('heat').heat")
    row = record["rows"][120]
    page.locator("#layers tbody tr").nth(120).click()
    assert page.text_content("#detail-title") == row["layer"]
    assert page.locator('#layers tr[aria-selected="true"]').get_attribute("data-layer") == row["layer"]
    assert row["official"] in page.text_content("#detail-summary")
    for name, figures in row["checks"].items():
        line = page.locator(f'#detail-checks tr[data-check="{name}"]')
        for title, value in (("error", figures["error"]), ("limit", figures["limit"])):
            text = line.locator(f'[data-figure="{title}"]').text_content()
            assert float(text) == pytest.approx(value, rel=0.06)
        assert line.locator('[data-figure="largest ulp distance"]').text_content() == "12"
    assert plot_data(page, "histogram")[0]["y"] == row["histogram"]["counts"]
    assert f"{row['histogram']['zeros']} are exactly equal" in page.text_content("#histogram-note")
    heat = page.evaluate("document.getElementById('heat').heat")
    assert heat["values"] != before["values"]
    step = heat["most"] / 254
    for drawn, cells in zip(heat["values"], row["heat"]["values"], strict=True):
        assert drawn == pytest.approx(cells, abs=0.51 * step)
    assert page.locator("#heat image").count() == 1  # not only data: there is a picture
    page.click("#first-failure")
    assert page.text_content("#detail-title") == record["first_failure"]


def test_curves_switch_between_accumulated_and_local(opened: Any, record: dict[str, Any]) -> None:
    page = opened(record)
    drawn = {}
    for view in ("accumulated", "local"):
        page.click(f'button[data-view="{view}"]')
        assert page.get_attribute(f'button[data-view="{view}"]', "aria-pressed") == "true"
        traces = {trace["name"]: trace for trace in plot_data(page, "growth")}
        drawn[view] = traces["float32 error"]["y"]
        given = [row["checks"][f"float32 {view}"]["error"] for row in record["rows"]]
        positive = [math.log10(error) for error in given if error]
        assert [y for y, error in zip(drawn[view], given, strict=True) if error] == pytest.approx(positive)
        assert set(traces) >= {"float32 limit", "candidate noise", "reference noise", "float64 error", "float64 limit"}
        assert set(traces["failing layer"]["x"]) == {BROKEN}
        assert record["rows"][BROKEN]["layer"] in traces["float32 error"]["text"][BROKEN]
    assert drawn["accumulated"] != drawn["local"]
    zeros = [y for y, error in zip(drawn["local"], given, strict=True) if error == 0]
    assert zeros
    place = page.evaluate("y => document.getElementById('growth').toPixels(0, y)[1]", zeros[0])
    label = page.locator("#growth text", has_text=re.compile("^0$")).first  # of the y axis, which is drawn first
    assert float(label.get_attribute("y")) == pytest.approx(place + 4)
    assert len(set(zeros)) == 1
    assert max(zeros) < min(positive)
    assert "Exact zeros" in page.text_content("#growth-note")


def test_a_click_on_a_point_selects_its_layer(opened: Any, record: dict[str, Any]) -> None:
    page = opened(record)
    y = math.log10(record["rows"][150]["checks"]["float32 accumulated"]["error"])
    page.locator("#growth").scroll_into_view_if_needed()
    place = page.evaluate(PLACE, y)
    page.mouse.move(*place)
    assert record["rows"][150]["layer"] in page.text_content("#growth .tip")
    page.mouse.click(*place)
    assert page.text_content("#detail-title") == record["rows"][150]["layer"]


def test_a_stretch_that_is_dragged_over_is_looked_at_closer(opened: Any, record: dict[str, Any]) -> None:
    page = opened(record)
    page.locator("#growth").scroll_into_view_if_needed()
    before, apart = page.evaluate(PLACE, -7), page.evaluate(APART)
    page.mouse.move(before[0] - 60, before[1])
    page.mouse.down()
    page.mouse.move(before[0] + 60, before[1], steps=3)
    page.mouse.up()
    assert page.evaluate(APART) > 5 * apart
    page.locator("#growth svg").dblclick(position={"x": 300, "y": 200})
    assert page.evaluate(PLACE, -7) == before


def test_names_are_never_markup(opened: Any, record: dict[str, Any]) -> None:
    record["rows"][0] |= {"layer": HOSTILE, "official": HOSTILE, "ok": False, "fault": HOSTILE}
    record |= {
        "model": HOSTILE,
        "verdict": HOSTILE,
        "first_failure": HOSTILE,
        "provenance": {HOSTILE: [HOSTILE, {"a": 1}]},
    }
    record["explanations"][0] |= {"change": HOSTILE, "first_failure_after": HOSTILE}
    record["backward"][0] |= {"variable": HOSTILE, "fault": HOSTILE}
    page = opened(record)
    assert page.evaluate("window.hacked") is None
    assert page.locator("b").count() == 0
    assert page.text_content("#verdict") == page.text_content("#detail-title") == HOSTILE
    assert page.text_content("#first-failure") == HOSTILE
    assert HOSTILE in plot_data(page, "growth")[0]["text"][0]


def test_a_comparison_that_agrees_selects_the_layer_nearest_its_limit(opened: Any, record: dict[str, Any]) -> None:
    quiet = check(1e-12, 1e-9)
    for row in record["rows"]:
        row |= {"ok": True, "checks": {"float32 local": quiet}}
    record["rows"][33]["checks"] = {"float32 local": check(9e-10, 1e-9)}
    record |= {"ok": True, "first_failure": None, "verdict": "all agree", "explanations": []}
    del record["backward"]
    page = opened(record)
    assert page.get_attribute("#verdict", "data-ok") == "ok"
    assert page.text_content("#detail-title") == record["rows"][33]["layer"]
    assert page.locator("#explanations, #backward, #first-failure").count() == 0


def test_layers_without_figures_are_shown_with_their_fault(opened: Any, record: dict[str, Any]) -> None:
    missing = {"ok": False, "fault": "missing in the reference", "checks": {}, "histogram": None, "heat": None}
    record["rows"][5] |= missing | {"official": "", "shape": []}
    record["rows"] *= 4  # as many as the largest model has
    record["rows"] = [row | {"layer": f"{row['layer']}.{index}"} for index, row in enumerate(record["rows"])]
    record["first_failure"] = record["rows"][5]["layer"]
    page = opened(record)
    assert page.locator("#layers tbody tr").count() == 4 * LAYERS
    assert "missing in the reference" in page.text_content("#detail-summary")
    assert plot_data(page, "growth")[-1]["x"][0] == 5
    assert "Failures without a figure (4)" in page.text_content("#growth-note")
    assert page.locator("#heat svg, #histogram svg").count() == 0
    page.locator("#layers tbody tr").nth(6).click()
    assert page.locator("#heat svg, #histogram svg").count() > 0
    page.locator("#layers tbody tr").nth(5).click()
    assert page.locator("#heat svg, #histogram svg").count() == 0


class Loads(HTMLParser):
    """Collects the addresses that tags would load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_file_holds_everything_it_shows(record: dict[str, Any], tmp_path: Path) -> None:
    write_page(ComparisonRecord.read(record), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    tags = Loads()
    tags.feed(text)
    assert set(tags.addresses) == {"data:,", "#detail"}
    held = re.search(r'<script type="application/octet-stream" id="record">(.*?)</script>', text, re.DOTALL)
    assert held
    rows = json.loads(zlib.decompress(base64.b64decode(held[1])))["rows"]
    for name, figures in record["rows"][7]["checks"].items():
        held_figures = rows[7]["checks"][name]
        assert held_figures["ok"] is figures["ok"]
        assert held_figures["cosine"] == figures["cosine"]  # which is shown less one
        for figure in ("error", "rms", "limit"):
            assert held_figures[figure] == pytest.approx(figures[figure], rel=1e-5)


def test_a_deep_network_gives_no_large_page(record: dict[str, Any], tmp_path: Path) -> None:
    """Four times a D0's layers, as the largest model has, and figures in which nothing repeats."""
    chance = random.Random(1)
    for row in record["rows"]:
        row["heat"]["values"] = [[chance.random() for _ in range(32)] for _ in range(32)]
        for figures in row["checks"].values():
            figures |= {"error": chance.random(), "rms": chance.random(), "cosine": chance.random()}
    record["rows"] = [row | {"layer": f"{row['layer']}.{copy}"} for copy in range(4) for row in record["rows"]]
    write_page(ComparisonRecord.read(record), tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < MEGABYTE


def test_of_cells_that_become_one_the_largest_is_kept() -> None:
    values = ((0.0, 1.0, 0.5), (2.0, None, 0.0), (0.25, 0.5, 1.0))
    heat = page_module._packed(Heat(check="c", values=values), 1)
    assert (heat["height"], heat["width"], heat["most"]) == (3, 3, 2.0)
    assert list(base64.b64decode(heat["cells"])) == [0, 127, 64, 254, 255, 0, 32, 64, 127]
    heat = page_module._packed(Heat(check="c", values=values), 2)
    assert list(base64.b64decode(heat["cells"])) == [255, 127, 127, 254]


def test_failing_write_leaves_no_file(record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OutputError, match="it is a directory"):
        write_page(ComparisonRecord.read(record), tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_page(ComparisonRecord.read(record | {"provenance": {"seed": float("nan")}}), tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()
