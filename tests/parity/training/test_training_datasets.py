"""Training on datasets as people have them: their ids, their names, and no split to evaluate on."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dataset_layouts import drawn, write_roboflow, write_voc, write_yolo
from training_runs import write_model

from effconv.cli import main
from effconv.convert.weights_file import read_weights
from effconv.effdet_torch.config import get_config
from effconv.parity.datasets.dataset import Dataset, DatasetError
from effconv.parity.datasets.renumbering import matched, renumbered, training_numbers
from effconv.parity.training.splits import held_out

__all__ = ["drawn"]
SHAPES = ["disc", "square", "triangle", "star", "ring", "cross", "arrow", "half disc"]


def run(command: str, *words: object) -> Result:
    return CliRunner().invoke(main, [command, *map(str, words)])


def trained(data: Path, folder: Path, *more: object) -> Result:
    """A training of one epoch, two or three steps."""
    model = write_model(folder / "small.json")
    options = ("--epochs", 1, "--batch", 2, "--workers", 0, "--survival", "none")
    return run("train", "--data", data, "--model", model, "--out", folder / "run", *options, *more)


def test_a_model_of_a_yolo_dataset_knows_its_names(drawn: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    for split in ("train", "val"):
        write_yolo(drawn, tmp_path / "data", split)
    result = trained(tmp_path / "data", tmp_path)
    assert result.exit_code == 0, result.output
    assert "categories: 1 disc (id 0), 2 square (id 1), 3 triangle (id 2)" in result.stderr
    weights = tmp_path / "run" / "model.safetensors"
    config = read_weights(weights).config
    assert config is not None
    assert (config.num_classes, list(config.class_names)) == (8, SHAPES)
    found = run("eval", "--coco", tmp_path / "data", "--ckpt", weights, "--workers", 0, "--json")
    assert found.exit_code == 0, found.output
    assert set(json.loads(found.stdout)["per_category"]) <= set(SHAPES)
    assert "categories are matched by name: 1 disc (id 0), 2 square (id 1)" in found.stderr
    yaml = tmp_path / "data" / "data.yaml"
    yaml.write_text(yaml.read_text().replace("disc", "dish"))
    refused = run("eval", "--coco", yaml, "--ckpt", weights, "--workers", 0)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "detects disc (id 1), square (id 2)" in refused.stderr
    assert "the dataset has dish (id 0), square (id 1)" in refused.stderr


def test_without_a_split_to_evaluate_on_the_ways_out_are_named(drawn: Dataset, tmp_path: Path) -> None:
    write_roboflow(drawn, tmp_path / "data", "train")
    result = trained(tmp_path / "data", tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "expected a split val2017, valid, val to evaluate on beside train, found train; " in result.stderr
    assert "(--eval-split none, --hold-out 0.1)" in result.stderr
    both = trained(tmp_path / "data", tmp_path, "--eval-split", "train", "--hold-out", 0.4)
    assert "--hold-out and --eval-split: choose one; " in both.stderr
    result = trained(tmp_path / "data", tmp_path, "--hold-out", 0.4)
    assert result.exit_code == 0, result.output
    assert "3 of 6 images are held out, 3 trained on" in result.stderr
    assert len((tmp_path / "run" / "evaluations.csv").read_text().splitlines()) == 2
    resumed = trained(tmp_path / "data", tmp_path, "--hold-out", 0.45, "--resume")
    assert "is of another training: hold_out" in resumed.stderr


def test_voc_is_trained_on(drawn: Dataset, tmp_path: Path) -> None:
    write_voc(drawn, tmp_path / "data", "train")
    result = trained(tmp_path / "data", tmp_path, "--eval-split", "none")
    assert result.exit_code == 0, result.output


def test_an_image_stays_on_its_side(drawn: Dataset) -> None:
    rest, held = held_out(drawn, 0.4)
    assert {each.id for each in rest.images} | {each.id for each in held.images} == {1, 2, 3, 4, 5, 6}
    assert len(rest.annotations) + len(held.annotations) == len(drawn.annotations)
    assert {each["image_id"] for each in held.annotations} <= {image.id for image in held.images}
    fewer = drawn.images[1:]
    again, _ = held_out(Dataset(drawn.path, fewer, drawn.categories, (), ""), 0.4)
    assert set(again.images) == set(rest.images) & set(fewer)
    with pytest.raises(DatasetError, match=r"0\.0001 of 6 images would hold out 0; give another share"):
        held_out(drawn, 0.0001)


def dataset(categories: dict[int, str]) -> Dataset:
    boxes = tuple({"category_id": number, "image_id": 1} for number in categories)
    return Dataset(Path("x.json"), (), categories, boxes, "")


D0 = get_config("d0")


@pytest.mark.parametrize(
    ("categories", "classes", "expected"),
    [
        ({0: "a", 1: "b", 2: "c"}, None, {0: 1, 1: 2, 2: 3}),
        ({0: "a", 1: "b", 2: "c"}, 5, {0: 1, 1: 2, 2: 3}),
        ({7: "a", 1000: "b"}, None, {7: 1, 1000: 2}),
        ({1: "a", 5: "b"}, None, {1: 1, 5: 2}),  # not COCO's: new classes
        ({1: "a", 5: "b"}, 5, {1: 1, 5: 5}),  # as it was asked for
        ({1: "person", 3: "car"}, None, {1: 1, 3: 3}),
        ({0: "person", 2: "car"}, None, {0: 1, 2: 3}),  # COCO's names under other ids
    ],
)
def test_ids_become_the_models(categories: dict[int, str], classes: int | None, expected: dict[int, int]) -> None:
    numbers = training_numbers(dataset(categories), D0, classes)
    assert numbers == expected
    found = renumbered(dataset(categories), numbers)
    assert found.categories == {expected[number]: name for number, name in categories.items()}
    assert [each["category_id"] for each in found.annotations] == list(expected.values())


def test_more_categories_than_classes_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"3 categories, and 2 classes to train: a \(id 0\), b"):
        training_numbers(dataset({0: "a", 1: "b", 2: "c"}), D0, 2)


def test_names_that_are_there_twice_are_matched_by_their_order() -> None:
    assert matched({1: "a", 2: "a", 3: "b"}, {0: "a", 4: "a", 7: "b"}) == {0: 1, 4: 2, 7: 3}
    assert matched({1: "a", 2: "a"}, {0: "a"}) is None


def test_a_coco_file_that_lies_elsewhere(drawn: Dataset, tmp_path: Path) -> None:
    write_roboflow(drawn, tmp_path / "data", "train")
    file = (tmp_path / "data" / "train" / "_annotations.coco.json").rename(tmp_path / "mine.json")
    place = ("--annotations", file, "--images", tmp_path / "data" / "train")
    model = write_model(tmp_path / "small.json")
    options = ("--epochs", 1, "--batch", 2, "--workers", 0, "--survival", "none", "--eval-split", "none")
    result = run("train", *place, "--model", model, "--out", tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    found = run("eval", *place, "--ckpt", tmp_path / "run" / "model.safetensors", "--workers", 0, "--json")
    assert found.exit_code == 0, found.output
    assert "mine.json" in found.stdout
    refused = run("eval", "--annotations", file, "--ckpt", "x.safetensors")
    assert refused.stderr == ("effconv: name the dataset: --coco FOLDER, or --annotations FILE and --images DIR\n")
