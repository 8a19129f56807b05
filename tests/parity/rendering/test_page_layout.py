"""Every page in a real browser, on a telephone and a desk, by day and by night: nothing is cut off, tiny or faint."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_datasets import change, write_clean
from end_to_end_results import CONFIG, OBJECTS, comparison, result
from recorded_stages import MEASURED, record_of
from verification_runs import verification

from effconv.effdet_torch.config import get_config
from effconv.parity.ablation.page import write_ablation_page
from effconv.parity.ablation.record import AblationRecord
from effconv.parity.comparison.end_to_end_page import write_end_to_end_report
from effconv.parity.comparison.page import write_page as write_comparison_page
from effconv.parity.comparison.records import ComparisonRecord
from effconv.parity.datasets.check import check_dataset
from effconv.parity.datasets.check_page import write_check_page
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.embedded import CURVE, TRAINING
from effconv.parity.referee.stages_page import write_stages_report
from effconv.parity.rendering.html import HOLDS, Page, write_page
from effconv.parity.verification.demo_page import demo_page
from effconv.parity.verification.demo_pictures import strips
from effconv.parity.verification.verification_page import verification_html
from page_layout import MEGABYTE, SCHEMES, WIDTHS, layout_faults
from page_record import make_record

REPOSITORY = Path(__file__).resolve().parents[3]
LONG = "a_name_without_any_place_to_break_it_that_is_longer_than_a_telephone_is_wide_in_letters"


def failing_comparison(path: Path) -> None:
    record = make_record()
    record["explanations"][0]["summary"] = LONG
    write_comparison_page(ComparisonRecord.read(record), path)


def agreeing_comparison(path: Path) -> None:
    record = make_record() | {"ok": True, "first_failure": None, "verdict": LONG, "explanations": [], "backward": []}
    record["rows"] = [row | {"layer": f"{row['layer']}.{LONG}"} for row in record["rows"][:40]]
    write_comparison_page(ComparisonRecord.read(record), path)


def ablations(path: Path) -> None:
    plain = json.loads((REPOSITORY / "results" / "measured" / "ablations.json").read_text(encoding="utf-8"))
    plain["rows"][3]["name"] = LONG
    write_ablation_page(AblationRecord.read(plain), path)


def check(path: Path) -> None:
    write_clean(path.parent)
    change(path.parent, categories=[{"id": 1, "name": LONG}, {"id": 2, "name": "b"}])
    found, dataset = check_dataset(path.parent, None, get_config("d0"), lambda done, total: None)
    write_check_page(found, dataset, path)


def demo(path: Path) -> None:
    write_clean(path.parent)
    dataset = read_dataset(path.parent)
    rows = np.array([[image.id, 5, 5, 60, 40, 0.9, 1] for image in dataset.images], np.float64)
    record = {
        "model": "shapes",
        "ok": True,
        "reference": "TensorFlow, recorded",
        "steps": [{"name": f"step {number}", "holds": holds, "verdict": f"{LONG} {number}"}
                  for number, holds in enumerate((True, False, None))],
        "metrics": [{"metric": "AP", "ours": 0.5, "official": 0.5}, {"metric": "APl", "ours": -1, "official": -1}],
        "per_category": {LONG: 0.5},
        "provenance": {"command": f"effconv demo -o {LONG}"},
    }  # fmt: skip
    layers = ComparisonRecord.read(make_record()).rows
    training = json.loads(TRAINING.read_text(encoding="utf-8"))
    write_page(demo_page(record, layers, training, CURVE, strips(dataset, rows, rows, 1, 0.4)), path)


def end_to_end(path: Path) -> None:
    apart = [*OBJECTS[1:], ((0, 0, 30, 30), 0.5, 80), ((60, 62, 110, 130), 0.4, 2)]
    results = [result(f"{LONG}.jpg", apart, holds=False), result("alike.jpg", OBJECTS)]
    results += [result(f"{number}.jpg", apart[:number], holds=False) for number in range(4)]
    compared = dataclasses.replace(comparison(results), config=dataclasses.replace(CONFIG, class_names=(LONG,) * 90))
    write_end_to_end_report(compared, path)


def agreeing_end_to_end(path: Path) -> None:
    write_end_to_end_report(comparison([result(f"{LONG}.jpg", OBJECTS)]), path)


def verified(path: Path) -> None:
    record = verification({"checkpoint": None, "layers": False}, model=LONG)
    record["steps"][2]["verdict"] = f"{LONG} {LONG}"
    write_page(verification_html(record), path)


def port_stages(path: Path) -> None:
    found = max(MEASURED, key=lambda each: sum(not row.ok for row in each.rows))
    write_stages_report(record_of(dataclasses.replace(found, picture=f"{LONG}.jpg")), path)


PAGES = (
    failing_comparison,
    agreeing_comparison,
    ablations,
    check,
    demo,
    end_to_end,
    agreeing_end_to_end,
    verified,
    port_stages,
)


@pytest.fixture(params=PAGES, ids=lambda make: make.__name__)
def page_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One page of each kind."""
    make: Callable[[Path], None] = request.param
    make(tmp_path / "page.html")
    return tmp_path / "page.html"


def test_nothing_is_cut_off_tiny_or_faint(page_path: Path, browser: Any) -> None:
    assert page_path.stat().st_size < MEGABYTE
    for width in WIDTHS:
        for scheme in SCHEMES:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
            page.goto(page_path.as_uri())
            if page.locator("#growth").count():
                page.wait_for_selector("#growth svg")
                drawn = page.locator(".plot svg").evaluate_all("all => all.map((each) => each.clientHeight)")
                assert len(drawn) == 3
                assert min(drawn) > 300
            assert page.locator(".banner p").count() >= 2, "the verdict has its explanation beside it"
            assert page.locator("main > :last-child").get_attribute("id") == "provenance"
            assert page.locator("#provenance").get_attribute("open") is None, "how it was made is folded"
            assert layout_faults(page) == [], f"{width} pixels, {scheme}"
            page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            assert layout_faults(page) == [], f"{width} pixels, {scheme}, unfolded"
            page.close()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('<div style="width: 500px">wide</div>', "beyond the window"),
        ('<div style="width: 9em; overflow: hidden; white-space: nowrap">a text longer than its box</div>', "cut off"),
        ('<svg width="60" height="20"><text y="15">a text longer than its drawing</text></svg>', "beyond its drawing"),
        ('<p style="font-size: 8px">small</p>', "text of 8.0 pixels"),
        ('<svg width="90" height="20" viewBox="0 0 360 80"><text y="40" font-size="12">x</text></svg>', "text of 3.0"),
        ('<p style="color: #bbb">faint</p>', "faint"),
    ],
)
def test_what_is_badly_laid_out_is_seen(content: str, fault: str, browser: Any, tmp_path: Path) -> None:
    write_page(Page("title", "heading", "verdict", HOLDS, "", content, {}), tmp_path / "page.html")
    page = browser.new_page(viewport={"width": WIDTHS[0], "height": 900}, color_scheme="light")
    page.goto((tmp_path / "page.html").as_uri())
    faults = layout_faults(page)
    assert faults
    assert any(fault in each for each in faults), faults
    page.close()


def test_a_table_that_scrolls_is_no_fault(browser: Any, tmp_path: Path) -> None:
    content = f'<div class="scroll"><table><tr><td>{LONG * 3}</td></tr></table></div>'
    write_page(Page("title", "heading", "verdict", HOLDS, "", content, {}), tmp_path / "page.html")
    page = browser.new_page(viewport={"width": WIDTHS[0], "height": 900})
    page.goto((tmp_path / "page.html").as_uri())
    assert layout_faults(page) == []
    page.close()
