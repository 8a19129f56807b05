"""Fine-tuning: the recipe, and that it goes on from trained weights with other categories."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dataset_layouts import drawn, write_roboflow
from option_values import options_of
from training_runs import SWISH, write_data

from effconv.cli import main
from effconv.convert.weights_file import read_weights
from effconv.parity.datasets.dataset import Dataset
from effconv.parity.training.finetuning import average_decay, finetuning

__all__ = ["drawn"]
CONFIG = json.loads((SWISH / "config.json").read_text())
FEW = ("--epochs", 1, "--batch", 2, "--workers", 0)


def finetune(*words: object) -> Result:
    return CliRunner().invoke(main, ["finetune", *map(str, words)])


def test_moving_averages_span_a_share_of_the_run() -> None:
    assert average_decay(500, 0.1) == pytest.approx(0.98)
    assert 1 / (1 - average_decay(2000, 0.1)) == pytest.approx(200)
    assert average_decay(10**6, 0.1) == 0.9998
    assert average_decay(10, 0.1) == 0.9


def test_the_command_has_the_recipe_as_its_defaults(tmp_path: Path) -> None:
    """It says them without importing what trains, so they stand in two places."""
    job = finetuning(data=tmp_path, model="d0", out=tmp_path, init=tmp_path)
    defaults = {name: option.default for name, option in options_of(main.commands["finetune"]).items()}
    assert [defaults[name] for name in ("epochs", "batch", "rate")] == [job.epochs, job.batch, job.rate]
    assert job.settings.frozen_norms is not defaults["train_norms"]


def test_what_is_chosen_goes_before_the_recipe(tmp_path: Path) -> None:
    job = finetuning(data=tmp_path, model="d0", out=tmp_path, init=tmp_path, epochs=3, frozen_norms=False)
    assert (job.epochs, job.batch, job.settings.frozen_norms, job.schedule) == (3, 8, False, "polynomial")
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        finetuning(data=tmp_path, model="d0", out=tmp_path, init=tmp_path, epoch=3)


def test_a_roboflow_folder_makes_a_model_of_its_categories(drawn: Dataset, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_roboflow(drawn, tmp_path / "data", split)
    model = tmp_path / "small.json"
    model.write_text(json.dumps({**CONFIG, "image_size": [96, 96]}))
    refused = finetune(tmp_path / "data", "--from", SWISH, "-o", tmp_path / "run", *FEW)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "name the model it is of" in refused.stderr
    result = finetune(tmp_path / "data", "--from", SWISH, "--model", model, "-o", tmp_path / "run", *FEW, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["new_tensors"] == ["class_head.predict.pointwise.weight", "class_head.predict.pointwise.bias"]
    config = read_weights(tmp_path / "run" / "model.safetensors").config
    assert config is not None
    assert set(config.class_names) == set(drawn.categories.values())
    # Its own weights know their model, and are gone on with as they are.
    weights = tmp_path / "run" / "model.safetensors"
    again = finetune(tmp_path / "data", "--from", weights, "-o", tmp_path / "again", *FEW, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["new_tensors"] == []


def test_frozen_norms_stay_as_they_are(tmp_path: Path) -> None:
    data, model = write_data(tmp_path / "data"), tmp_path / "small.json"
    model.write_text(json.dumps({**CONFIG, "image_size": [96, 96]}))
    begun = {}
    for name, more in (("kept", ()), ("trained", ("--train-norms",))):
        result = finetune(data, "--from", SWISH, "--model", model, "-o", tmp_path / name, *FEW, *more)
        assert result.exit_code == 0, result.output
        begun[name] = read_weights(tmp_path / name / "raw.safetensors").state
    key = "backbone.stem.norm.running_mean"
    assert (begun["kept"][key] != begun["trained"][key]).any()
    assert (begun["kept"]["backbone.stem.conv.weight"] != begun["trained"]["backbone.stem.conv.weight"]).any()


def test_what_cannot_be_gone_on_from_is_one_line(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    refused = finetune(data, "--from", "d11", "-o", tmp_path / "run")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "--from d11: no such file, and unknown model 'd11': did you mean d1?" in refused.stderr
    assert not (tmp_path / "run").exists()
    refused = finetune("--from", SWISH, "-o", tmp_path / "run")
    assert "name the dataset: DATA, or --annotations FILE and --images DIR" in refused.stderr
