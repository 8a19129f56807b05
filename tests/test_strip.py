"""The README's picture: it is what the record says, and nothing on it hides another label."""

import copy
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from effconv.errors import EffconvError
from scripts import load_script


@pytest.fixture(scope="module")
def drawing(repository: Path) -> ModuleType:
    """tools/strip.py as a module."""
    return load_script(repository / "tools" / "strip.py")


@pytest.fixture
def record(repository: Path) -> dict[str, Any]:
    """The record, to be changed at will."""
    found: dict[str, Any] = json.loads((repository / "results" / "measured" / "strip.json").read_text())
    return found


def test_the_picture_is_what_the_record_says(drawing: ModuleType, record: dict[str, Any], repository: Path) -> None:
    text = (repository / "docs" / "strip.svg").read_text()
    assert text == drawing.strip(record), "`make docs` draws it"
    assert len(text) < 200_000


def test_both_sides_are_recorded_to_find_the_same_objects(drawing: ModuleType, record: dict[str, Any]) -> None:
    for picture in record["pictures"]:
        places = range(len(picture["tensorflow"]))
        assert picture["same_objects"]
        assert picture["pairs"] == [[place, place] for place in places]
        assert len(picture["effconv"]) == len(places) >= 4
    pixels, score = drawing.largest_differences(record)
    assert 0 < pixels < 1e-3
    assert 0 < score < 1e-5
    assert all(row["float64"] <= row["allowed"] for row in record["layers"])


def test_a_record_of_other_objects_is_not_drawn(drawing: ModuleType, record: dict[str, Any]) -> None:
    record["pictures"][0]["same_objects"] = False
    with pytest.raises(EffconvError, match="the two sides find other objects"):
        drawing.strip(record)


def test_an_object_that_lies_elsewhere_is_drawn_elsewhere_and_counted(
    drawing: ModuleType, record: dict[str, Any]
) -> None:
    before, moved = drawing.strip(record), copy.deepcopy(record)
    moved["pictures"][0]["effconv"][0]["box"][2] += 3
    after = drawing.strip(moved)
    assert after != before
    assert drawing.largest_differences(moved)[0] == pytest.approx(3, abs=1e-3)
    (largest,) = re.findall(r"Largest difference: ([\d.]+) pixels", after)
    assert float(largest) == pytest.approx(3, abs=1e-3)


def test_labels_lie_inside_and_on_no_other_label(drawing: ModuleType, record: dict[str, Any]) -> None:
    """Every label is a rectangle with a height of its own; each panel is an SVG inside the whole one."""
    text = str(drawing.strip(record)).replace("\n", " ")
    panels = re.findall(r'<svg x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="([\d.]+)">(.*?)</svg>', text)
    assert len(panels) == 4 * len(record["pictures"])
    for width, height, inside in panels:
        found = re.findall(r'<rect x="([\d.-]+)" y="([\d.-]+)" width="([\d.]+)" height="([\d.]+)" fill="#', inside)
        figures = [[float(value) for value in each] for each in found]
        labels = [drawing.Rectangle(x, y, x + wide, y + high) for x, y, wide, high in figures]
        assert len(labels) >= 4
        for place, label in enumerate(labels):
            assert min(label.left, label.top) >= -0.1
            assert label.right <= float(width) + 0.1
            assert label.bottom <= float(height) + 0.1
            assert not [other for other in labels[:place] if _overlap(label, other) > 0.2]


def _overlap(one: Any, other: Any) -> float:
    """The shorter side of what two rectangles share, in pixels; negative where they are apart. Figures are rounded."""
    across = min(one.right, other.right) - max(one.left, other.left)
    return float(min(across, min(one.bottom, other.bottom) - max(one.top, other.top)))
