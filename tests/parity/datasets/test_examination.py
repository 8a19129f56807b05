"""Datasets with something wrong: named, counted, recorded, and refused where that is asked for; results stay."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from effconv.cli import main
from effconv.parity.datasets.dataset import DatasetError
from effconv.parity.datasets.examination import CONSEQUENCES, DatasetWarning, Examination, examine
from effconv.parity.datasets.layouts import read_dataset
from small_datasets import content, write_dataset

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
MODEL = ["--model", str(SWISH / "config.json"), "--ckpt", str(SWISH)]
TURNED = 6  # what EXIF calls a picture to be turned clockwise


def write(folder: Path, data: dict[str, Any], turned: tuple[str, ...] = ()) -> Path:
    """A dataset with its pictures, in the sizes of `content()`."""
    write_dataset(folder, data)
    (folder / "val2017").mkdir(exist_ok=True)
    for image in content()["images"]:
        exif = Image.Exif()
        exif[0x0112] = TURNED if image["file_name"] in turned else 1
        picture = Image.new("RGB", (image["width"], image["height"]), "gray")
        picture.save(folder / "val2017" / image["file_name"], exif=exif)
    return folder


def faulty() -> dict[str, Any]:
    data = content()
    data["images"][1]["height"] = 51
    box = dict(data["annotations"][0], area=1)
    boxes = {20: [5, 5, 0, 9], 21: [5, 5, 9, -1], 22: [60, 5, 22, 9], 23: [-2, 0, 9, 9], 24: [0, -1, 81, 62]}
    data["annotations"] += [{**box, "id": number, "bbox": each} for number, each in boxes.items()]
    data["annotations"].append({**box, "id": 1})
    return data


FOUND = {
    "boxes without area": ["20", "21"],
    "boxes beyond their image": ["22", "23"],
    "annotation ids given twice": ["1"],
    "images of another size than annotated": ["b.jpg"],
}


def examined(folder: Path) -> Examination:
    dataset = read_dataset(folder)
    return examine(dataset, dataset.images)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    """24 reaches no further than a pixel beyond its image, all around."""
    assert {**examined(write(tmp_path, faulty())).faults} == FOUND


@pytest.mark.parametrize("box", [[-1, 0, 9, 9], [0, -1, 9, 9], [72, 0, 9, 9], [0, 52, 9, 9]])
def test_a_pixel_beyond_is_no_fault(box: list[float], tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["bbox"] = box
    assert not examined(write(tmp_path, data)).faults
    outward = [each + (0.01 if each > 9 else -0.01 if each < 0 else 0) for each in box]
    data["annotations"][0]["bbox"] = outward
    assert {**examined(write(tmp_path, data)).faults} == {"boxes beyond their image": ["0"]}


def test_no_annotation_and_no_fault(tmp_path: Path) -> None:
    assert examined(write(tmp_path, content())) == Examination(read_dataset(tmp_path), {}, [])
    assert examined(write(tmp_path, content())).record() == {}
    (tmp_path / "val2017" / "a.jpg").unlink()  # whoever reads it says so
    assert {**examined(write_dataset(tmp_path, {**content(), "annotations": []})).faults} == {
        "no annotation at all": ["instances_val2017.json"]
    }


def test_names_are_cut_to_the_first_and_a_count(tmp_path: Path) -> None:
    data = content()
    data["annotations"] = [{**data["annotations"][0], "id": number, "bbox": [1, 1, 9, 0]} for number in range(9)]
    found = examined(write(tmp_path, data))
    assert found.record() == {"boxes without area": {"count": 9, "first": ["0", "1", "2", "3", "4"]}}
    with pytest.raises(DatasetError, match=r"boxes without area: 9 \(0, 1, 2, 3, 4 and 4 more\); mend") as raised:
        found.require_no_fault()
    assert raised.value.lists == {"boxes without area": tuple(map(str, range(9)))}


def test_orientations_are_said_once_and_are_no_fault(tmp_path: Path) -> None:
    found = examined(write(tmp_path, content(), turned=("a.jpg", "b.jpg")))
    found.require_no_fault()
    with pytest.warns(DatasetWarning) as warned:
        found.warn()
    assert [str(each.message).partition(":")[0] for each in warned] == ["a.jpg"]
    assert str(warned[0].message).endswith("(2 such files)")
    assert found.record() == {"EXIF orientations ignored": {"count": 2, "first": ["a.jpg", "b.jpg"]}}


@pytest.mark.shared
def test_the_real_images_are_without_fault(shared: Path) -> None:
    found = examined(shared / "coco" / "val2017_66")
    assert (found.faults, found.turned) == ({}, [])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_an_evaluation_says_them_records_them_and_is_otherwise_the_same(tmp_path: Path) -> None:
    command = ["eval", *MODEL, "--workers", 0, "--json", "--coco"]
    data = faulty()
    result = run(*command, write(tmp_path / "a", data, turned=("a.jpg",)))
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("effconv: warning: ")]
    assert len(lines) == len(FOUND) + 1
    for line, (what, names) in zip(lines[:-1], FOUND.items(), strict=True):
        assert f"instances_val2017.json: {what}: {len(names)} ({', '.join(names)}); {CONSEQUENCES[what]}" in line
    record = json.loads(result.stdout)
    assert {what: each["count"] for what, each in record["dataset_faults"].items()} == {
        **{what: len(names) for what, names in FOUND.items()},
        "EXIF orientations ignored": 1,
    }
    # As pycocotools measures them.
    other = json.loads(run(*command, tmp_path / "a", "--metrics-engine", "pycocotools").stdout)
    assert other["metrics"] == record["metrics"]


@pytest.mark.parametrize("command", ["eval", "ablate", "train", "results file"])
def test_strict_commands_refuse_them(command: str, tmp_path: Path) -> None:
    folder = write(tmp_path, faulty())
    (tmp_path / "d.json").write_text("[]")
    commands = {
        "eval": ["eval", *MODEL, "--coco", folder],
        "results file": ["eval", "--results", tmp_path / "d.json", "--coco", folder],
        "ablate": ["ablate", "--no-same-maxpool", *MODEL, "--coco", folder],
        "train": ["train", *MODEL[:2], "--data", folder, "--split", "val2017", "--out", tmp_path / "out"],
    }
    result = run(*commands[command], "--strict")
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "boxes without area: 2 (20, 21); boxes beyond their image: 2 (22, 23); annotation ids given twice" in line
    assert not (tmp_path / "out").exists()


def test_a_prediction_says_once_that_orientations_are_ignored(tmp_path: Path) -> None:
    folder = write(tmp_path, content(), turned=("b.jpg",)) / "val2017"
    result = run("predict", folder, "-o", tmp_path / "out", *MODEL, "--json")
    assert result.exit_code == 0
    assert f"warning: {folder / 'b.jpg'}: its EXIF orientation is ignored" in result.stderr
    assert result.stderr.count("(1 such file)") == 1
    assert [image["exif_orientation"] for image in json.loads(result.stdout)["images"]] == [1, TURNED]
