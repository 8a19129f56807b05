"""The page from bytes to detections: what differs is told and marked, no name is taken for HTML, and its size."""

import base64
import dataclasses
import io
import json
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from end_to_end_results import CONFIG, LIMIT, OBJECTS, SIZE, Object, comparison, result
from PIL import Image

from effconv.cli import main
from effconv.convert.output_kinds import REPORT
from effconv.effdet_torch.name_colours import name_colour
from effconv.effdet_torch.preprocessing.decode import read_encoded
from effconv.parity.comparison import end_to_end_job, end_to_end_page
from effconv.parity.comparison.end_to_end import ImageResult
from effconv.parity.comparison.end_to_end_job import EndToEndComparison, _images, _named
from effconv.parity.comparison.end_to_end_page import (
    MOST_ALIKE,
    MOST_PICTURES,
    chosen_pictures,
    write_end_to_end_report,
)
from effconv.parity.comparison.end_to_end_pictures import LONGER, MOST_MARKED, compared_pictures
from effconv.parity.comparison.end_to_end_stages import Measured, Stage
from effconv.parity.comparison.object_differences import object_differences
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.shapes import write_shapes
from page_layout import MEGABYTE

MOVED = ((60, 60, 110, 95), 0.8, 2)  # seven tenths of the second
WRONG_CLASS = ((10, 100, 40, 150), 0.7, 17)
WRONG_SCORE = ((70, 5, 110, 45), 0.5, 4)
OTHER = ((0, 60, 8, 80), 0.55, 5)
DIFFERENT: list[Object] = [MOVED, WRONG_CLASS, WRONG_SCORE, OTHER]


def told(found: ImageResult) -> list[tuple[str, int | None, int | None]]:
    differences = object_differences(found.official, found.ours, found.pairing, found.score_limit)
    return [(each.kind, each.official, each.ours) for each in differences]


def test_each_kind_of_difference_is_told_the_highest_score_first() -> None:
    assert told(result("x", DIFFERENT, holds=False)) == [
        ("TensorFlow alone", 0, None),
        ("moved", 1, 0),
        ("another class", 2, 1),
        ("another score", 3, 3),
        ("effconv alone", None, 2),
    ]
    assert told(result("x", OBJECTS)) == []
    barely = [(box, score + LIMIT / 2, category) for box, score, category in OBJECTS]
    assert told(result("x", barely)) == []
    assert told(result("x", [])) == [("TensorFlow alone", place, None) for place in range(4)]
    assert told(result("x", OBJECTS, [])) == [("effconv alone", None, place) for place in range(4)]


def test_categories_have_the_datasets_names_where_the_model_has_none(tmp_path: Path) -> None:
    write_shapes(tmp_path, "val2017", 1, 0, SIZE)
    dataset = read_dataset(tmp_path)
    nameless = dataclasses.replace(CONFIG, num_classes=11, class_names=())
    assert _named(nameless, dataset).class_names == tuple(dataset.categories.get(n, "") for n in range(1, 12))
    own = dataclasses.replace(nameless, class_names=tuple("abcdefghijk"))
    for config, given in ((nameless, None), (own, dataset), (dataclasses.replace(nameless, num_classes=2), dataset)):
        assert _named(config, given) == config


def test_a_box_is_told_by_pixels_and_overlap() -> None:
    found = result("x", DIFFERENT, holds=False)
    _, moved, *_ = object_differences(found.official, found.ours, found.pairing, found.score_limit)
    assert moved.distance == 15
    assert moved.overlap == pytest.approx(0.7)


def test_images_of_the_same_file_name_are_counted_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COCO's file_name may have a folder in it."""
    shapes = tmp_path / "shapes"
    write_shapes(shapes, "val2017", 2, 0, SIZE)
    annotations = shapes / "annotations" / "instances_val2017.json"
    content = json.loads(annotations.read_text())
    for image, folder in zip(content["images"], "ab", strict=True):
        (shapes / "val2017" / folder).mkdir()
        (shapes / "val2017" / image["file_name"]).rename(shapes / "val2017" / folder / "1.jpg")
        image["file_name"] = f"{folder}/1.jpg"
    annotations.write_text(json.dumps(content))
    names = [name for name, _ in _images(None, read_dataset(shapes), shapes)]
    assert names == ["val2017/a/1.jpg", "val2017/b/1.jpg"]
    compared = comparison([result("1.jpg", DIFFERENT, holds=False) for _ in names])
    assert compared.record.row.found.verdict.startswith("2 of 2 images differ")
    monkeypatch.setattr(end_to_end_page, "MOST_PICTURES", 1)
    assert "Of 1 image more with a difference there is no room for pictures." in page(compared, tmp_path / "x.html")


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


def test_the_objects_that_differ_have_a_dashed_band_and_others_have_none() -> None:
    encoded = io.BytesIO()
    Image.new("RGB", SIZE[::-1], (90, 90, 90)).save(encoded, "PNG")
    missing = result("x", OBJECTS[:-1], holds=False)
    made = compared_pictures(encoded.getvalue(), missing, CONFIG)
    official, ours = pixels(made.official.jpeg), pixels(made.ours.jpeg)
    scale = LONGER / SIZE[1]
    assert official.shape == ours.shape == (round(SIZE[0] * scale), LONGER, 3)
    bottom, left, right = (round(value * scale) for value in (110, 5, 45))
    band = official[bottom + 2, left:right]  # below the outline of the fourth object, which effconv lacks
    assert (band.max(-1) < 60).sum() > 10, "dashes of black"
    assert (band.min(-1) > 200).sum() > 10, "dashes of white"
    assert np.abs(ours[bottom - 4 : bottom + 5, left:right] - 90).max() < 8, "nothing is drawn where nothing was found"
    bottom, left, right = (round(value * scale) for value in (110, 60, 110))
    outline = np.abs(official[bottom, left + 20 : right - 20] - name_colour("bicycle")).max(-1)
    assert np.median(outline) < 60, "an object that both found has its own colour"
    assert np.abs(official[bottom + 2, left + 20 : right - 20] - 90).max() < 40, "and no band"
    assert np.abs(official - ours)[:, LONGER // 2 + 20 :].max() < 3, "the rest is the same on both sides"


def page(compared: EndToEndComparison, path: Path) -> str:
    write_end_to_end_report(compared, path)
    assert REPORT.recognises(path)
    return str(path.read_text())


def test_what_differs_is_beside_its_pictures(tmp_path: Path) -> None:
    same, differs = result("alike.jpg", OBJECTS), result("differs.jpg", DIFFERENT, holds=False)
    text = page(comparison([same, differs]), tmp_path / "x.html")
    assert '<div class="banner failed">' in text
    assert "1 of 2 images differs, first detections end to end of differs.jpg: objects differ" in text
    assert '<a href="#picture-1">differs.jpg</a>, which differs from stage detections end to end on' in text
    assert text.index('<section id="picture-1"><h2>differs.jpg') < text.index('<section id="picture-2"><h2>alike.jpg')
    row = "<td>another class</td><td>car 0.7000</td><td>cat 0.7000</td><td>0 pixels apart, overlap 1</td>"
    assert row in text
    assert "<td>moved</td><td>bicycle 0.8000</td><td>bicycle 0.8000</td>" in text
    assert "15 pixels apart, overlap 0.7, the same from 0.9" in text
    assert f"Scores of the same object may differ by {LIMIT:.2g}." in text
    assert text.count("<img ") == 4
    assert '<td>detections end to end</td><td class="failed-text">does not hold</td>' in text


def test_a_run_that_holds_has_pictures_too(tmp_path: Path) -> None:
    text = page(comparison([result(f"{number}.jpg", OBJECTS) for number in range(9)]), tmp_path / "x.html")
    assert '<div class="banner ok">' in text
    assert "does not hold" not in text
    assert text.count("<img ") == 2 * MOST_ALIKE
    assert text.count("No object differs.") == MOST_ALIKE


def test_a_stages_row_shows_what_failed(tmp_path: Path) -> None:
    """Of several images that which fails, though another's figure is larger; no figure where what failed has none."""
    holds, fails = result("a.jpg", OBJECTS), result("b.jpg", DIFFERENT, holds=False)
    failing = {
        "input": None,
        "scores": Measured(9.0, 8.0, "units in the last place of a score"),
        "detections end to end": Measured(1.0, 0.0, "objects without a partner"),
    }
    stages = [
        Stage(each.name, False, "fails", failing[each.name]) if each.name in failing else each for each in fails.stages
    ]
    close = [each._replace(measured=Measured(1.0, 1.0, "of what is allowed")) for each in holds.stages]
    text = page(comparison([holds._replace(stages=close), fails._replace(stages=stages)]), tmp_path / "x.html")
    for name, differs, limit, what in (
        ("input", "not comparable", "-", ""),
        ("scores", "9", "8", "units in the last place of a score"),
        ("detections end to end", "1", "0", "objects without a partner"),
    ):
        figures = f'<td class="number">{differs}</td><td class="number">{limit}</td><td>{what}</td>'
        assert f'<td>{name}</td><td class="failed-text">does not hold</td>{figures}' in text


def test_no_image_is_no_proof(tmp_path: Path) -> None:
    text = page(comparison([]), tmp_path / "x.html")
    assert '<div class="banner failed">' in text
    assert '<td class="open-text">not looked at</td>' in text
    assert ">holds<" not in text


def test_many_images_give_no_large_page(tmp_path: Path) -> None:
    """Pictures of noise, of which JPEG saves the least; hundreds of objects that differ."""
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)).save(noise, "PNG")
    many = [((y, x, y + 9, x + 9), 0.5, 1) for y in range(0, 100, 10) for x in range(0, 150, 10)]
    results = [result(f"{number}.jpg", [], many, holds=False) for number in range(40)]
    compared = comparison(results, noise.getvalue())
    text = page(compared, tmp_path / "noise.html")
    assert len(text) < MEGABYTE
    shown = text.count("<img ") // 2
    assert 1 <= shown < MOST_PICTURES
    assert f"Of {40 - shown} images more with a difference there is no room for pictures." in text
    assert f"And {len(many) - MOST_MARKED} more, of lower scores." in text
    simple = [result(f"{number}.jpg", OBJECTS[:3], holds=False) for number in range(40)]
    assert len(chosen_pictures(comparison(simple))) == MOST_PICTURES


def test_room_is_what_limits_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = comparison([result(f"{number}.jpg", DIFFERENT, holds=False) for number in range(4)])
    first = chosen_pictures(compared)[0]
    room = len(first.official.source) + len(first.ours.source)
    monkeypatch.setattr(end_to_end_page, "ROOM", 2 * room)
    assert len(chosen_pictures(compared)) == 2


def test_a_name_is_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>&\"'.jpg"
    text = page(comparison([result(hostile, DIFFERENT, holds=False)]), tmp_path / "x.html")
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_name_in_markdown_is_text_whatever_its_bytes(tmp_path: Path) -> None:
    """`menu\\xe9.jpg` on a disk whose names are UTF-8, and signs that Markdown has a meaning for."""
    name = os.fsdecode(b"*a* <b>_c_`\n# d menu\xe9.jpg")
    compared = comparison([result(name, DIFFERENT, holds=False)])
    markdown = page(compared, tmp_path / "x.md")
    assert r"\*a\* \<b\>\_c\_\` # d menu\udce9.jpg: unexplained" in markdown
    assert "\n# d" not in markdown
    assert "menu&#56553;.jpg" in page(compared, tmp_path / "x.html")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_picture_that_has_gone_does_not_lose_the_result(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = comparison([result("x.jpg", OBJECTS)])
    gone = tmp_path / "x.jpg"
    compared = dataclasses.replace(compared, images=[("x.jpg", partial(read_encoded, gone))])
    monkeypatch.setattr(end_to_end_job, "compare_end_to_end", lambda *given: compared)
    told = CliRunner().invoke(main, ["parity", "--end-to-end", "--report", str(tmp_path / "x.html"), *options])
    assert told.exit_code == 2
    assert compared.record.row.found.verdict in " ".join(told.stdout.split())
    assert str(gone) in told.stderr
    assert not (tmp_path / "x.html").exists()


@pytest.mark.filterwarnings("error")
def test_a_box_that_is_no_number_is_no_trouble(tmp_path: Path) -> None:
    boxes = ((0, 0, float("inf"), 9), (float("nan"), 0, 9, 9), (-1e9, 0, 1e9, 9))
    strange: list[Object] = [(box, 0.5, 1) for box in boxes]
    text = page(comparison([result("x.jpg", strange, holds=False)]), tmp_path / "x.html")
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len([pixels(base64.b64decode(each)) for each in encoded]) == 2
    endless = result("x.jpg", [(boxes[0], 0.5, 1)], [(boxes[0], 0.7, 1)], holds=False)
    assert told(endless) == [("another score", 0, 0)]
    assert "<td>0 pixels apart, overlap 1</td>" in page(comparison([endless]), tmp_path / "y.html")


def test_an_object_outside_the_picture_is_neither_drawn_nor_counted() -> None:
    encoded = io.BytesIO()
    Image.new("RGB", SIZE[::-1], (90, 90, 90)).save(encoded, "PNG")
    outside: list[Object] = [((20, 170, 50, 220), 0.9, 1), ((-40, 20, -5, 60), 0.8, 2)]
    made = compared_pictures(encoded.getvalue(), result("x", outside, [], holds=False), CONFIG)
    assert (made.ours.drawn, made.ours.of, len(made.differences)) == (0, 2, 2)
    assert np.abs(pixels(made.ours.jpeg) - 90).max() < 8, "no band at the edge"


def test_other_reports_have_the_verdict_and_what_made_it(tmp_path: Path) -> None:
    compared = comparison([result("x.jpg", DIFFERENT, holds=False)])
    markdown = page(compared, tmp_path / "x.md")
    assert "# efficientdet-d0: 1 of 1 image differs" in markdown
    assert '"command": "effconv parity --end-to-end"' in markdown
    assert "holds in 0 of 1 image\n" in markdown
    assert '"verdict": "1 of 1 image differs' in page(compared, tmp_path / "x.json")
