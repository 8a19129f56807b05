"""`effconv check`: what it prints, its exit statuses, the configuration it writes, and bad input."""

import json
from pathlib import Path

import pytest
from command_lines import refuse, run
from drawn_datasets import change, clean, write_clean

from effconv.effdet_torch.config import get_config
from effconv.parity.datasets.check import DatasetCheck


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_clean(tmp_path / "data")


def plant(folder: Path) -> None:
    annotations = clean()["annotations"]
    annotations[4]["bbox"] = [20, 20, 0, 8]
    change(folder, annotations=annotations)


def test_a_clean_dataset_is_status_0_and_a_serious_fault_1(dataset: Path) -> None:
    done = run("check", dataset)
    assert done.exit_code == 0, done.output
    assert "0 serious findings, 0 notes" in done.stdout
    assert "of 36 (" in done.stdout
    plant(dataset)
    done = run("check", dataset)
    assert done.exit_code == 1
    assert "serious: boxes without area: 1 of 36 boxes" in done.stdout
    assert "2.png, annotation 5, [20, 20, 0, 8] in 128 x 96 pixels" in done.stdout
    assert "1 serious finding, 0 notes" in done.stdout


def test_a_note_is_status_0(dataset: Path) -> None:
    change(dataset, categories=[*clean()["categories"], {"id": 3, "name": "Round"}])
    done = run("check", dataset)
    assert done.exit_code == 0, done.output
    assert "0 serious findings, 2 notes" in done.stdout


def test_json_is_the_whole_record(dataset: Path) -> None:
    plant(dataset)
    done = run("check", dataset, "--json", "--model", "lite0")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found.pop("ok") is False
    record = DatasetCheck.read(found)
    assert (record.model, record.image_size) == ("efficientdet-lite0", (320, 320))
    assert [each.name for each in record.findings] == ["boxes without area"]
    assert record.coverage is not None
    assert record.coverage.anchor_scale == 3.0


def test_the_other_split_is_checked_where_it_is_named(dataset: Path) -> None:
    write_clean(dataset, "mine", seed=9)
    (dataset / "mine" / "3.png").unlink()
    assert run("check", dataset).exit_code == 0
    done = run("check", dataset, "--split", "mine")
    assert done.exit_code == 1
    assert "missing files: 1 of 12 images" in done.stdout


def test_the_configuration_has_the_proposed_anchors_and_the_categories(dataset: Path, tmp_path: Path) -> None:
    annotations = clean()["annotations"]
    for each in annotations:
        each |= {"bbox": [each["bbox"][0] % 50, each["bbox"][1], 72, 6], "area": 432}
    change(dataset, annotations=annotations)
    written = tmp_path / "my.json"
    found = json.loads(run("check", dataset, "--write-config", written, "--json").stdout)
    config = get_config(str(written))
    assert config.anchor_scale == found["proposal"]["anchor_scale"]
    assert list(config.aspect_ratios) == found["proposal"]["aspect_ratios"]
    assert (config.num_classes, config.class_names) == (2, ("round", "square"))
    assert "exists, and is not a configuration that effconv wrote" in refuse(
        "check", dataset, "--write-config", written
    )
    again = json.loads(run("check", dataset, "--model", written, "--json").stdout)
    assert again["coverage"]["all"]["not_reached"] == found["proposal"]["not_reached"]


def test_where_nothing_is_gained_the_model_keeps_its_anchors(dataset: Path, tmp_path: Path) -> None:
    change(dataset, annotations=[])
    assert run("check", dataset, "--write-config", tmp_path / "my.json").exit_code == 1
    assert get_config(str(tmp_path / "my.json")).aspect_ratios == get_config("d0").aspect_ratios


def test_a_configuration_numbers_categories_as_training_does(dataset: Path, tmp_path: Path) -> None:
    change(dataset, annotations=[], categories=[{"id": 7, "name": "round"}, {"id": 0, "name": "square"}])
    run("check", dataset, "--write-config", tmp_path / "my.json")
    written = json.loads((tmp_path / "my.json").read_text())
    assert (written["num_classes"], written["class_names"]) == (2, ["square", "round"])


def test_what_is_no_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    assert "no such folder" in refuse("check", tmp_path / "nowhere")
    assert "found val2017" in refuse("check", dataset, "--split", "test")
    assert "unknown model" in refuse("check", dataset, "--model", "e9")
    change(dataset, annotations=[clean()["annotations"][0] | {"image_id": 99}])
    assert "image_id 99 is not among the images" in refuse("check", dataset)
