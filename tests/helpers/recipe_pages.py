"""The pages of docs/recipes/: their blocks, and the folder and the stand-in for d0 that they run with.

In a test `d0` is the detector that ships with effconv, so that every command of a page is typed as the page has it.
"""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from dataset_layouts import Writer

import effconv
from effconv.cli import main
from effconv.convert import zoo
from effconv.convert.namings import recognition
from effconv.effdet_torch.config import VARIANTS, Config, get_config
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.shapes import CATEGORIES, write_shapes
from effconv.parity.embedded import CONFIG, FOLDER

MINE = {1: "cone", 2: "helmet", 3: "vest"}  # what three of the drawn shapes are called in mine/
SIZE = 120, 144  # of drawn pictures: height, width
PORT = """
import effconv
from strange_port import StrangePort, with_weights_of

class Port(StrangePort):
    pool_padding = 0.0

def build():
    return with_weights_of(effconv.load("d0"), Port)
"""


class Block(NamedTuple):
    """A fenced block of a page: `sh` (commands), `python`, or `text` (lines of what the block before it prints)."""

    kind: str
    lines: list[str]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks in order. Raises AssertionError for a fence of another kind, or one that is not closed."""
    found: list[Block] = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            if not inside:
                assert line[3:] in ("sh", "python", "text"), f"{page.name}: {line}: say what the block is"
                found.append(Block(line[3:], []))
            inside = not inside
        elif inside:
            found[-1].lines.append(line)
    assert not inside, f"{page.name}: a block is not closed"
    return found


def prose(page: Path) -> str:
    """What stands outside the fenced blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))


def typed_in_prose(page: Path) -> list[str]:
    """Whole commands, with arguments, that stand outside fenced blocks."""
    return [each for each in re.findall(r"`([^`]+)`", prose(page)) if re.match(r"effconv [\w-]+ ", each)]


def stand_in_for_d0(monkeypatch: pytest.MonkeyPatch) -> None:
    """`d0` is the embedded detector: its configuration has d0's name, its checkpoint is what a download gives."""
    names = tuple(CATEGORIES.get(number, "") for number in range(1, max(CATEGORIES) + 1))
    small = dataclasses.replace(get_config(str(CONFIG)), name="efficientdet-d0", class_names=names)
    official: list[Config] = [small if each is VARIANTS[small.name] else each for each in recognition.OFFICIAL]
    monkeypatch.setattr(recognition, "OFFICIAL", official)
    monkeypatch.setitem(VARIANTS, small.name, small)
    there = zoo.Download(FOLDER, "", "as downloaded and verified before (sha256)")
    monkeypatch.setattr(zoo, "download", lambda release, **asked: there)


def prepare(folder: Path, layout: Writer) -> None:
    """What the pages take for granted, with `d0` stood in for: pictures, datasets, weights, and somebody's port."""
    write_shapes(folder / "coco", "val2017", 12, 2, SIZE)
    pictures = sorted((folder / "coco" / "val2017").glob("*.jpg"))
    shutil.copy(pictures[0], folder / "street.jpg")
    (folder / "pictures").mkdir()
    for picture in pictures[:4]:
        shutil.copy(picture, folder / "pictures")
    for split, images, seed in (("train", 16, 3), ("valid", 6, 4)):
        write_mine(folder, split, images, seed, layout)
    (folder / "myport.py").write_text(PORT)


def prepare_weights(folder: Path, page: str) -> None:
    """The files of weights and detections that a page starts from."""
    model = effconv.load(FOLDER, model="d0")
    if page == "deploy":
        (folder / "run").mkdir()
        effconv.save(model, folder / "run" / "model.safetensors")
    elif page == "google":
        effconv.save(model, folder / "mine.pth", to="effdet")
    elif page == "port":
        shutil.copytree(FOLDER, folder / "official")
        options = ["--nms", "hard", "--min-score", "0.2", "--detections", str(folder / "mine.json")]
        result = CliRunner().invoke(main, ["eval", "--coco", str(folder / "coco"), "--model", "d0", *options])
        assert result.exit_code == 0, result.output


def write_mine(folder: Path, split: str, images: int, seed: int, layout: Writer) -> None:
    """Drawn pictures of which three shapes are marked, under other names; no crowds, which YOLO has not."""
    drawn = folder / "drawn" / split
    write_shapes(drawn, "val2017", images, seed, SIZE)
    path = drawn / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    numbers = dict(zip(sorted(CATEGORIES), MINE, strict=False))
    data["categories"] = [{"id": number, "name": name} for number, name in MINE.items()]
    data["annotations"] = [
        {**each, "category_id": numbers[each["category_id"]]}
        for each in data["annotations"]
        if each["category_id"] in numbers and not each["iscrowd"]
    ]
    path.write_text(json.dumps(data))
    layout(read_dataset(drawn), folder / "mine", split)
