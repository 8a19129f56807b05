"""A record says which weights were evaluated, by what their file knows and not by what was asked for alone."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.convert.weights_file import read_weights, save_weights
from effconv.parity.evaluation.published_rows import CONDITIONS, conditions_of, differences, find_published
from effconv.parity.evaluation.weights_used import AS_IN_FILE
from effconv.parity.training import train

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
MODEL = ("--model", SWISH / "config.json")


def run(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def converted(folder: Path, *options: object) -> Path:
    run("tf2torch", *MODEL, "--ckpt", SWISH, "-o", folder / "x.safetensors", *options)
    return folder / "x.safetensors"


def without_word(folder: Path) -> Path:
    stored = read_weights(converted(folder))
    assert stored.config is not None
    save_weights(stored.state, stored.config, folder / "x.safetensors")
    return folder / "x.safetensors"


def pickled(folder: Path) -> Path:
    state = read_weights(converted(folder)).state
    torch.save({key: torch.from_numpy(value) for key, value in state.items()}, folder / "x.pth")
    return folder / "x.pth"


FILES = {
    "averages": (lambda folder: (SWISH,), "ema"),
    "raw weights": (lambda folder: (SWISH, "--weights", "raw"), "raw"),
    "converted averages": (lambda folder: (converted(folder),), "ema"),
    "converted raw weights": (lambda folder: (converted(folder, "--weights", "raw"),), "raw"),
    "a converted .h5": (lambda folder: (converted(folder, "--ckpt", SWISH / "tiny-swish.h5"),), AS_IN_FILE),
    "an .h5": (lambda folder: (SWISH / "tiny-swish.h5",), AS_IN_FILE),
    "weights that do not say": (lambda folder: (without_word(folder),), AS_IN_FILE),
    "a .pth": (lambda folder: (pickled(folder),), AS_IN_FILE),
}


@pytest.mark.parametrize("file", FILES)
def test_records_say_which_weights(file: str, pictures: Path, tmp_path: Path) -> None:
    made, expected = FILES[file]
    chosen = ("--ckpt", *made(tmp_path), *MODEL, "--json")
    evaluated = json.loads(run("eval", "--coco", pictures, "--workers", 0, "--limit", 1, *chosen).stdout)
    image = min((pictures / "val2017").iterdir())
    predicted = json.loads(run("predict", image, "-o", tmp_path / "out", *chosen).stdout)
    assert evaluated["conditions"]["weights"] == predicted["conditions"]["weights"] == expected


def test_what_is_not_known_to_be_moving_averages_reproduces_nothing() -> None:
    record = find_published("efficientdet-d0")[0]
    run_of = {name: conditions_of(record)[name] for name in CONDITIONS}
    assert "weights" not in [each.condition for each in differences(record, run_of)]
    assert "weights" in [each.condition for each in differences(record, {**run_of, "weights": AS_IN_FILE})]


def test_trained_weights_say_which_they_are(whole_training: Path) -> None:
    kinds = {name: read_weights(whole_training / name).weights for name in (train.AVERAGED, train.RAW)}
    assert kinds == {"model.safetensors": "ema", "raw.safetensors": "raw"}
