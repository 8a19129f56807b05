"""`effconv config`, and the names of classes on their way from a dataset to what is printed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import effconv
from effconv.cli import main
from effconv.effdet_torch.categories import category_name
from effconv.effdet_torch.config import get_config


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_configuration_for_other_classes(tmp_path: Path) -> None:
    done = run("config", "d0", "--names", "cat, dog,bird")
    assert done.exit_code == 0
    (tmp_path / "pets.json").write_text(done.stdout)
    config = get_config(str(tmp_path / "pets.json"))
    assert (config.num_classes, config.class_names) == (3, ("cat", "dog", "bird"))
    assert config.label == "efficientdet-d0 with 3 classes"
    again = json.loads(run("config", tmp_path / "pets.json", "--num-classes", 4).stdout)
    assert (again["num_classes"], again["class_names"]) == (4, [])
    assert json.loads(run("config", "lite0").stdout)["num_classes"] == 90


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("d0", "--num-classes", 2, "--names", "cat"), "class_names must be 2 or none, found 1"),
        (("d0", "--names", "x" * 101), "class_names must be short names"),
        (("e0",), "unknown model 'e0'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(arguments: tuple[object, ...], message: str) -> None:
    done = run("config", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_trained_weights_know_their_classes(
    training_pictures: Path,
    whole_training: Path,
    tmp_path: Path,
) -> None:
    trained = effconv.load(whole_training / "model.safetensors")
    assert trained.config.num_classes == len(trained.config.class_names) == 11
    annotations = json.loads((training_pictures / "annotations" / "instances_train2017.json").read_text())
    for category in annotations["categories"]:
        assert category_name(category["id"], trained.config) == category["name"]
    done = run("convert", whole_training / "model.safetensors", "-o", tmp_path / "x.safetensors")
    assert done.exit_code == 0, done.output
    assert effconv.load(tmp_path / "x.safetensors").config == trained.config
