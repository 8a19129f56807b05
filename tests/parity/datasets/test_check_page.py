"""The page of a check: what is in it, that nothing of a dataset's names is taken for HTML, and how large it is."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from drawn_datasets import IMAGES, NAMES, SIZE, change, clean, write_clean
from PIL import Image

from effconv.convert.output_kinds import REPORT
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.name_colours import name_colour
from effconv.parity.datasets.check import check_dataset
from effconv.parity.datasets.check_page import MOST_ROWS, write_check_page
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.thumbnails import SHOWN, SIDE, thumbnails

MEGABYTE = 1_000_000
HOSTILE = "<script>alert(1)</script>&\"'"


def page(folder: Path) -> str:
    checked, dataset = check_dataset(folder, None, get_config("d0"), lambda done, total: None)
    write_check_page(checked, dataset, folder / "page.html")
    assert REPORT.recognises(folder / "page.html")
    return (folder / "page.html").read_text()


def pictures(text: str) -> list[Image.Image]:
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in encoded]


def test_a_page_has_findings_charts_and_pictures(tmp_path: Path) -> None:
    data = clean()
    data["annotations"][4]["bbox"] = [20, 20, -5, 8]
    write_clean(tmp_path)
    change(tmp_path, **data)
    text = page(tmp_path)
    assert '<article class="serious"><h3>boxes without area: 1 of 36 boxes</h3>' in text
    assert "2.png, annotation 5, [20, 20, -5, 8] in 128 x 96 pixels" in text
    assert text.count('class="bars"') == 5  # of the categories' anchors there is nothing bad to show
    assert "boxes by their best overlap with any anchor" in text
    assert len(pictures(text)) == SHOWN == IMAGES
    assert len(text) < MEGABYTE


def test_names_are_text(tmp_path: Path) -> None:
    write_clean(tmp_path)
    change(tmp_path, categories=[{"id": 1, "name": HOSTILE}, {"id": 2, "name": "b"}, {"id": 3, "name": HOSTILE}])
    text = page(tmp_path)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_large_dataset_gives_no_large_page(tmp_path: Path) -> None:
    data = clean()
    data["categories"] += [{"id": number, "name": "x" * 90 + str(number)} for number in range(3, 3000)]
    random = np.random.default_rng(1)
    for image in data["images"]:
        image["height"], image["width"] = 1200, 1600
    write_clean(tmp_path)
    change(tmp_path, **data)
    for image in data["images"]:  # noise, of which JPEG saves the least
        pixels = random.integers(0, 256, (1200, 1600, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "val2017" / image["file_name"], compress_level=0)
    text = page(tmp_path)
    assert len(text) < MEGABYTE
    assert f"and {2999 - MOST_ROWS:,} more categories" in text
    assert {max(each.size) for each in pictures(text)} == {SIDE}


def test_boxes_are_drawn_where_they_are(tmp_path: Path) -> None:
    write_clean(tmp_path)
    for number in range(1, IMAGES + 1):
        Image.new("RGB", SIZE[::-1], "black").save(tmp_path / f"val2017/{number}.png")
    box = {"id": 1, "image_id": 3, "category_id": 2, "bbox": [40, 50, 30, 20], "area": 600, "iscrowd": 0}
    change(tmp_path, annotations=[box])
    (found,) = (each for each in thumbnails(read_dataset(tmp_path), []) if each.boxes)
    assert found.name == "3.png"
    pixels = np.asarray(Image.open(io.BytesIO(found.jpeg))).astype(int)
    assert pixels.shape == (*SIZE, 3)
    colour = np.array(name_colour(NAMES[2]))
    for y, x in ((60, 40), (60, 70), (70, 55)):
        assert np.abs(pixels[y, x] - colour).max() < 100  # a line of a pixel, as JPEG keeps it
    assert pixels[60, 55].max() < 60


def test_unreadable_pictures_are_left_out(tmp_path: Path) -> None:
    write_clean(tmp_path)
    for number in range(1, 8):
        (tmp_path / f"val2017/{number}.png").write_bytes(b"x")
    assert len(pictures(page(tmp_path))) == IMAGES - 7


@pytest.mark.parametrize("size", [(4, 900), (900, 4)])
def test_a_thin_picture_is_no_trouble(size: tuple[int, int], tmp_path: Path) -> None:
    write_clean(tmp_path)
    Image.new("RGB", size).save(tmp_path / "val2017/1.png")
    assert min(pictures(page(tmp_path))[0].size) == 1
