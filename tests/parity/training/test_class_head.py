"""The class head of trained weights on another dataset: whose class predictions a training begins with."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dataset_layouts import drawn, write_roboflow
from training_runs import SWISH

import effconv
from effconv.cli import main
from effconv.convert.weights_file import save_weights
from effconv.effdet_torch.config import config_to_dict, get_config, read_config
from effconv.effdet_torch.training.start import CLASS_PREDICTIONS
from effconv.parity.datasets.dataset import Dataset
from effconv.parity.training.class_head import class_head

__all__ = ["drawn"]
TINY = dataclasses.replace(read_config(SWISH / "config.json"), image_size=(96, 96))
PETS = ("cat", "dog", "bird")
PARTS = ("bolt", "nut", "washer")
THEIRS = "instead of cat, dog, bird"
FEW = ("--epochs", 1, "--batch", 2, "--workers", 0, "--hold-out", 0.4)
STILL = ("--rate", 1e-30)  # the weights stay as they were


def named(*names: str) -> dict[int, str]:
    return dict(enumerate(names, 1))


def checkpoint(names: tuple[str, ...], path: Path) -> Path:
    """Weights of the tiny model for three classes, every class its own."""
    model = effconv.load(SWISH, model=TINY, num_classes=3)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    numbers = np.random.default_rng(2)
    state |= {name: numbers.normal(0, 0.1, state[name].shape).astype(np.float32) for name in CLASS_PREDICTIONS}
    save_weights(state, dataclasses.replace(model.config, class_names=names), path, "only")
    return path


def data(drawn: Dataset, folder: Path, names: tuple[str, ...]) -> Path:
    """Drawn pictures whose boxes are of three categories, called so under ids 1, 2, 3."""
    boxes = tuple({**each, "category_id": 1 + number % 3} for number, each in enumerate(drawn.annotations))
    return write_roboflow(dataclasses.replace(drawn, categories=named(*names), annotations=boxes), folder, "train")


def run(command: str, *words: object) -> Result:
    return CliRunner().invoke(main, [command, *map(str, words)])


def predictions(path: Path) -> list[np.ndarray]:
    """Weights and biases of the class predictions, (anchors, classes, ...)."""
    model = effconv.load(path)
    shape = (TINY.num_anchors, model.config.num_classes)
    return [model.state_dict()[name].unflatten(0, shape).numpy() for name in CLASS_PREDICTIONS]


@pytest.mark.parametrize(
    ("mine", "order", "said"),
    [
        (PETS, [0, 1, 2], "class head: kept, same 3 classes\n"),
        (("bird", "cat", "dog"), [0, 1, 2], "class head: kept, same 3 classes\n"),  # trained under the weights' numbers
        (PARTS, None, "class head: made anew: bolt, nut, washer instead of cat, dog, bird\n"),
    ],
)
def test_finetune_begins_with_class_predictions_of_the_same_names(
    mine: tuple[str, ...], order: list[int] | None, said: str, drawn: Dataset, tmp_path: Path
) -> None:
    weights = checkpoint(PETS, tmp_path / "pets.safetensors")
    result = run(
        "finetune", data(drawn, tmp_path / "data", mine), "--from", weights, "-o", tmp_path / "run", *FEW, *STILL
    )
    assert result.exit_code == 0, result.output
    assert said in result.stderr
    trained = tmp_path / "run" / "raw.safetensors"
    assert effconv.load(trained).config.class_names == (PARTS if order is None else PETS)
    for found, before in zip(predictions(trained), predictions(weights), strict=True):
        assert np.array_equal(found, before[:, order or [0, 1, 2]]) is (order is not None)


def test_numbers_that_are_asked_for_take_their_predictions_by_name(drawn: Dataset, tmp_path: Path) -> None:
    weights = checkpoint(PETS, tmp_path / "pets.safetensors")
    folder = data(drawn, tmp_path / "data", ("bird", "cat", "dog"))
    more = ("--model", tmp_path / "model.json", "--num-classes", 3, "--survival", "none")
    (tmp_path / "model.json").write_text(json.dumps(config_to_dict(dataclasses.replace(TINY, num_classes=3))))
    result = run("train", "--data", folder, "--init", weights, "--out", tmp_path / "run", *FEW, *STILL, *more)
    assert result.exit_code == 0, result.output
    assert "class head: kept by name: bird, cat, dog\n" in result.stderr
    for found, before in zip(predictions(tmp_path / "run" / "raw.safetensors"), predictions(weights), strict=True):
        assert np.array_equal(found, before[:, [2, 0, 1]])


def test_weights_that_do_not_name_their_classes_are_kept_and_that_is_said(drawn: Dataset, tmp_path: Path) -> None:
    weights = checkpoint((), tmp_path / "unnamed.safetensors")
    result = run(
        "finetune", data(drawn, tmp_path / "data", PARTS), "--from", weights, "-o", tmp_path / "run", *FEW, "--json"
    )
    assert result.exit_code == 0, result.output
    said = "kept; the weights do not name their 3 classes, which are taken to be bolt, nut, washer"
    assert f"class head: {said}\n" in result.stderr
    record = json.loads(result.stdout)
    assert (record["class_head"], record["new_tensors"]) == (said, [])


@pytest.mark.parametrize(
    ("names", "classes", "rows", "said"),
    [
        (named("cat", "dog"), 3, (0, 1, 2), "kept, 2 of its 3 classes"),
        (named("cat", "dog"), 2, (0, 1), "kept by name: cat, dog"),
        ({1: "bird", 4: "cat"}, 4, (2, None, None, 0), "kept by name: bird, cat"),
        (named("cat", "dog", "bird", "fish"), 4, (0, 1, 2, None), "kept by name: cat, dog, bird; at random: fish"),
        (named("Cat", "dog", "bird"), 3, (None, 1, 2), "kept by name: dog, bird; at random: Cat"),
        (named("bird", "bird", "dog"), 3, (None, None, 1), "kept by name: dog; at random: bird, bird"),
        (named("bolt", "nut"), 2, (None, None), f"made anew: bolt, nut {THEIRS}"),
    ],
)
def test_classes_are_taken_for_classes_of_their_name_alone(
    names: dict[int, str], classes: int, rows: tuple[int | None, ...], said: str
) -> None:
    trained = dataclasses.replace(TINY, num_classes=3, class_names=PETS)
    assert class_head(trained, names, classes) == (rows, said)


def test_a_name_that_the_weights_have_twice_says_nothing() -> None:
    trained = dataclasses.replace(TINY, num_classes=3, class_names=("cat", "cat", "dog"))
    assert class_head(trained, named("cat", "cat", "dog"), 3).rows == (0, 1, 2)
    assert class_head(trained, named("dog", "cat"), 2) == ((2, None), "kept by name: dog; at random: cat")


def test_a_model_of_cocos_classes_has_their_names() -> None:
    found = class_head(get_config("d0"), {1: "person", 3: "car"}, 90)
    assert found == (tuple(range(90)), "kept, 2 of its 80 classes")
    assert class_head(get_config("d0"), {1: "person", 2: "car"}, 2).rows == (0, 2)
