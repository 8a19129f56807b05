"""`effconv convert` and `effconv.save`: from any names to any, with any number of classes."""

import dataclasses
import json
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import effconv
from effconv.cli import main
from effconv.convert import fingerprints
from effconv.convert.fingerprints import Released
from effconv.convert.inspection import inspect_checkpoint
from effconv.convert.namings.recognition import NAMINGS
from effconv.convert.namings.tensors import to_port
from effconv.convert.rules import rules
from effconv.convert.sources import open_checkpoint
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import CheckpointError, EffconvError
from effconv.loading import PortWarning
from effconv.saving import TARGETS, write_state

PETS = dataclasses.replace(get_config("d0"), num_classes=3)


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {rule.torch: rule.layout.torch_shape(rule.shape) for rule in rules(PETS)}
    return {key: random.uniform(0.5, 1.5, shape).astype(np.float32) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def files(state: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training script of effdet keeps, and a checkpoint of google/automl's training, both of three classes."""
    folder = tmp_path_factory.mktemp("files")
    tensors = {
        f"module.{key}": torch.from_numpy(value) for key, value in to_port(state, NAMINGS["effdet"], PETS).items()
    }
    averages = {key: value + 1 for key, value in tensors.items()}
    torch.save({"epoch": 3, "arch": "d0", "state_dict": tensors, "state_dict_ema": averages}, folder / "pets.pth")
    write_state(state, PETS, folder / "tf" / "model", "tf", {})
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_from_effdet_through_every_port_to_tensorflow_and_back(
    files: Path, state: dict[str, np.ndarray], tmp_path: Path
) -> None:
    steps = ("zylo117.pth", "mmdetection.safetensors", "effconv.safetensors")
    source, options = files / "pets.pth", ["--weights", "raw"]
    for step in steps:
        done = run("convert", source, "-o", tmp_path / step, "--to", step.partition(".")[0], *options)
        assert done.exit_code == 0, done.output
        source, options = tmp_path / step, []
    assert run("convert", source, "-o", tmp_path / "tf" / "model").exit_code == 0
    back = effconv.load(tmp_path / "tf", model="d0")
    assert back.config == PETS
    assert all(np.array_equal(value.numpy(), state[key]) for key, value in back.state_dict().items())
    manifest = json.loads((tmp_path / "zylo117.pth.manifest.json").read_text())
    assert (manifest["model"], manifest["exact"], manifest["changed"]) == ("efficientdet-d0", len(state), {})
    assert manifest["config"]["num_classes"] == 3


def test_moving_averages_are_taken_where_there_are_any(files: Path, state: dict[str, np.ndarray]) -> None:
    with pytest.warns(PortWarning, match=r"taken as efficientdet-d0 with 3 classes; converted from effdet \(timm\)'s"):
        averaged = effconv.load(files / "pets.pth").state_dict()
    key = "backbone.stem.norm.bias"
    assert np.array_equal(averaged[key].numpy(), state[key] + 1)
    raw = effconv.load(files / "pets.pth", weights="raw").state_dict()
    assert np.array_equal(raw[key].numpy(), state[key])


def test_what_a_port_rounds_is_in_the_manifest(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "pets.pth"
    assert run("convert", files / "tf", "-o", out, "--to", "pytorch-tools").exit_code == 0
    manifest = json.loads((tmp_path / "pets.pth.manifest.json").read_text())
    reasons = set(manifest["changed"].values())
    assert {"running mean" in reason or "epsilon" in reason for reason in reasons} == {True}
    assert manifest["exact"] + len(manifest["changed"]) == len(rules(PETS))
    norm = "bifpn.cells.0.nodes.0.norm.running_mean"
    assert "takes" in manifest["changed"][norm] or "taken off" in manifest["changed"][norm]


def test_a_checkpoint_of_three_classes(files: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(files / "tf")
    assert inspect_checkpoint(checkpoint, checked=True)["fits"][0].startswith("efficientdet-d0 with 3 classes (3,")
    done = run(
        "tf2torch", "--model", "d0", "--ckpt", files / "tf", "-o", tmp_path / "x.safetensors", "--weights", "raw"
    )
    assert done.exit_code == 0, done.output
    # It knows its own number of classes, whatever official model is named beside it.
    assert effconv.load(tmp_path / "x.safetensors", model="d0").config == PETS
    assert effconv.load(tmp_path / "x.safetensors", model="d0-advprop").config.num_classes == 3
    assert "does not fit efficientdet-d1" in run("tf2torch", "--model", "d1", "--ckpt", files / "tf").output


def test_save(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    network = EfficientDet(PETS)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    assert [path.name for path in effconv.save(network, tmp_path / "a.pth", to="effdet")] == [
        "a.pth",
        "a.pth.manifest.json",
    ]
    effconv.save(network, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        loaded = effconv.load(tmp_path / name)
        assert loaded.config == PETS
        assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())
    with pytest.raises(
        EffconvError, match=r"expected \.safetensors, \.pth, \.pt, \.h5 or the prefix of a TensorFlow checkpoint"
    ):
        effconv.save(network, tmp_path / "c.onnx")
    with pytest.raises(ValueError, match=r"to must be one of tf, effconv, effdet, .*, found 'onnx'"):
        effconv.save(network, tmp_path / "c.pth", to="onnx")
    lite = EfficientDet(get_config("lite0"))
    with pytest.raises(EffconvError, match="zylo117/Yet-Another-EfficientDet-Pytorch has no efficientdet-lite0"):
        effconv.save(lite, tmp_path / "d.pth", to="zylo117")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.pth", "a.pth.manifest.json", "b.safetensors", "b.manifest.json"}


def test_what_effconv_did_not_write_is_not_replaced(files: Path, tmp_path: Path) -> None:
    mine, command = (
        tmp_path / "mine.pth",
        ("convert", files / "pets.pth", "-o", tmp_path / "mine.pth", "--to", "effdet"),
    )
    mine.write_bytes(b"mine")
    refused = run(*command)
    assert (refused.exit_code, mine.read_bytes()) == (2, b"mine")
    assert "exists, and is not weights for another port that effconv wrote" in refused.stderr
    assert run(*command, "--force").exit_code == 0
    assert run(*command).exit_code == 0  # again: it is effconv's now
    config = tmp_path / "mine.json"
    config.write_text("{}")
    assert run("convert", files / "pets.pth", "-o", tmp_path / "mine.safetensors").exit_code == 0
    assert config.read_text() == "{}"


def test_values_are_recognised_under_any_names(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(files / "tf")
    released = Released("pets-1", "efficientdet-d0", "pets", checkpoint.checksums())
    monkeypatch.setattr(fingerprints, "known_checkpoints", lambda: (released,))
    monkeypatch.setattr(fingerprints, "get_config", lambda model: PETS)
    assert run("convert", files / "tf", "-o", tmp_path / "z.pth", "--to", "zylo117").exit_code == 0
    known = run("identify", tmp_path / "z.pth")
    assert known.exit_code == 0
    assert f"{tmp_path / 'z.pth'}: pets-1\n  709 of 709 tensors agree with pets-1, moving averages" in known.stdout
    # The file's raw weights are others than its averages, which alone are what was released.
    assert run("convert", files / "pets.pth", "-o", tmp_path / "e.pth", "--to", "zylo117").exit_code == 0
    other = run("identify", tmp_path / "e.pth")
    assert (other.exit_code, "none of the known released checkpoints" in other.stdout) == (1, True)
    assert "0 of 709 tensors agree" in other.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tf", "--from", "effdet"), "a TensorFlow checkpoint, whose names are its own"),
        (("pets.pth", "--num-classes", 4), "expected 4 classes, found 3"),
        (("pets.pth", "--from", "zylo117"), "not of zylo117/Yet-Another-EfficientDet-Pytorch, whose files have"),
        (("pets.pth", "--model", "d1"), "Its tensors are those of efficientdet-d0 with 3 classes"),
        (("pets.pth", "--model", "lite0", "--to", "zylo117"), "does not fit efficientdet-lite0"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_two_lines(
    files: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    done = run("convert", files / str(arguments[0]), "-o", tmp_path / "x.pth", *arguments[1:])
    assert done.exit_code == 2
    refusals = [line for line in done.stderr.splitlines() if "warning" not in line]
    assert message in "\n".join(refusals)
    assert len(refusals) <= 2
    assert not list(tmp_path.iterdir())


def test_a_folder_stands_for_a_prefix_in_it(files: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for output in (tmp_path / "there", f"{tmp_path / 'new'}/"):
        assert run("convert", files / "tf", "-o", output, "--weights", "raw").exit_code == 0
        assert (Path(output) / "model.index").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "there"]


def test_names_that_a_file_of_effconv_does_not_have_are_refused(files: Path, tmp_path: Path) -> None:
    assert run("convert", files / "tf", "-o", tmp_path / "x.safetensors", "--weights", "raw").exit_code == 0
    refused = run("convert", tmp_path / "x.safetensors", "-o", tmp_path / "y.safetensors", "--from", "effdet")
    assert refused.exit_code == 2
    assert "effconv wrote it, under its own names and not effdet (timm)'s (--from effconv)" in refused.stderr


@pytest.mark.parametrize("port", ["effconv", "effdet"])
def test_whole_numbers_are_no_weights(state: dict[str, np.ndarray], tmp_path: Path, port: str) -> None:
    tensors = {key: torch.from_numpy(value) for key, value in to_port(state, NAMINGS[port], PETS).items()}
    first = next(iter(tensors))
    torch.save({**tensors, first: tensors[first].int()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"1 of another shape or type\n.*expected float32 .*, found int32"):
        effconv.load(tmp_path / "x.pth")


def test_the_command_knows_every_port() -> None:
    (to,) = (option for option in main.commands["convert"].params if option.name == "to")
    assert isinstance(to.type, click.Choice)
    assert list(to.type.choices) == list(TARGETS)


def test_averages_asked_of_a_file_without_are_refused(files: Path, tmp_path: Path) -> None:
    torch.save(torch.load(files / "pets.pth", weights_only=True)["state_dict"], tmp_path / "raw.pth")
    with pytest.raises(CheckpointError, match="holds no moving averages"):
        effconv.load(tmp_path / "raw.pth", weights="ema")
