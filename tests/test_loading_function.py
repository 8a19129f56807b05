"""Weights of ports whose own networks pad max-pooling with zeros: taken as the function they were trained in."""

import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

import effconv
from effconv import loading
from effconv.cli import main
from effconv.convert.fingerprints import Identification, known_checkpoints
from effconv.convert.namings.recognition import NAMINGS
from effconv.convert.namings.tensors import expected
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.engines.fast import fast
from effconv.effdet_torch.model import EfficientDet
from effconv.loading import PortWarning
from effconv.parity.mistakes.network import CHANGES, changed
from effconv.saving import FunctionWarning
from tiny_models import load_tiny

SWISH = Path(__file__).parent / "golden" / "tiny-swish"
CONFIG = str(SWISH / "config.json")


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    return load_tiny(SWISH)


@pytest.fixture
def file(model: EfficientDet, tmp_path: Path) -> Path:
    """A file of zylo117's."""
    with pytest.warns(FunctionWarning, match="what reads it computes another"):
        effconv.save(model, tmp_path / "theirs.pth", to="zylo117")
    return tmp_path / "theirs.pth"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def outputs(network: torch.nn.Module) -> list[Tensor]:
    images = torch.randn(1, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return [level for kind in network(images) for level in kind]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_is_the_ports_own_function(model: EfficientDet, file: Path) -> None:
    with pytest.warns(PortWarning, match="pads max-pooling with zeros, TensorFlow's with minus infinity"):
        theirs = effconv.load(file, model=CONFIG)
    assert theirs.config == dataclasses.replace(model.config, zero_padded_pool=True)
    assert equal(outputs(theirs), outputs(changed(model, CHANGES["zero-padded-maxpool"])))
    assert not equal(outputs(theirs), outputs(model))
    assert not CHANGES["zero-padded-maxpool"].fits(theirs.config)
    for one, other in zip(outputs(fast(theirs)), outputs(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_it_is_the_official_function_where_that_is_said(model: EfficientDet, file: Path) -> None:
    official = effconv.load(file, model=CONFIG, function="official")
    assert official.config == model.config
    assert equal(outputs(official), outputs(model))
    with pytest.raises(ValueError, match="function must be 'port', 'official' or None, found 'both'"):
        effconv.load(file, model=CONFIG, function="both")


def test_values_of_a_release_are_official(model: EfficientDet, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Identification(known_checkpoints()[0], [])
    monkeypatch.setattr(loading, "identify_state", lambda *arguments: found)
    with pytest.warns(PortWarning, match="the values are of a release of Google's"):
        assert effconv.load(file, model=CONFIG).config == model.config
    with pytest.warns(PortWarning, match="taken as its own"):
        assert effconv.load(file, model=CONFIG, function="port").config.zero_padded_pool


def test_it_stays_with_the_weights(file: Path, tmp_path: Path) -> None:
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    result = run("convert", file, "-o", ours, "--model", CONFIG)
    assert result.exit_code == 0, result.output
    assert effconv.load(ours).config.zero_padded_pool
    assert "its max-pooling padded with zeros" in result.stdout
    with warnings.catch_warnings():
        warnings.simplefilter("error", FunctionWarning)
        effconv.save(effconv.load(ours), back, to="zylo117")  # the same function: nothing to say
    assert json.loads((tmp_path / "back.pth.manifest.json").read_text())["function"] == "the same"
    for to, ending in (("effdet", "x.pth"), ("effconv", "y.pth"), ("tf", "z")):
        result = run("convert", ours, "-o", tmp_path / ending, "--to", to)
        assert result.exit_code == 0, result.output
        assert "what reads it computes another: max-pooling is padded with minus infinity there" in result.stderr


def test_the_command_takes_either(model: EfficientDet, file: Path, tmp_path: Path) -> None:
    words = ("convert", file, "--model", CONFIG, "-o")
    assert run(*words, tmp_path / "a.safetensors", "--function", "official").exit_code == 0
    assert effconv.load(tmp_path / "a.safetensors").config == model.config
    assert run(*words, tmp_path / "b.safetensors", "--function", "port").exit_code == 0
    assert effconv.load(tmp_path / "b.safetensors").config.zero_padded_pool
    refused = run("convert", SWISH, "--model", CONFIG, "-o", tmp_path / "c.safetensors", "--function", "port")
    assert (refused.exit_code, "--function: not used by a TensorFlow checkpoint" in refused.stderr) == (2, True)


@pytest.fixture
def tools_file(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A file of pytorch-tools', and the tensors in it."""
    config = get_config("d0")
    random = np.random.default_rng(0)
    tensors = {
        key: random.uniform(0.5, 1.5, shape).astype(np.float32)
        for key, shape in expected(NAMINGS["pytorch-tools"], config).items()
    }
    torch.save({key: torch.from_numpy(value) for key, value in tensors.items()}, tmp_path / "tools.pth")
    return tmp_path / "tools.pth", tensors


STEM = "backbone.stem.norm.running_var"


def test_a_prediction_is_of_either_function(file: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)).save(tmp_path / "x.png")
    found = {}
    for function in ("port", "official"):
        words = ("predict", tmp_path / "x.png", "-o", tmp_path / function, "--model", CONFIG, "--ckpt", file)
        result = run(*words, "--function", function, "--min-score", 0)
        assert result.exit_code == 0, result.output
        found[function] = json.loads((tmp_path / function / "detections.json").read_text())
    assert found["port"] != found["official"]
    refused = run(*words[:-1], SWISH, "--function", "port")
    assert refused.exit_code == 2
    assert "its function is known" in refused.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", [(), ("--end-to-end",), ("--engine", "fast")])
def test_a_function_without_a_candidate_is_refused(words: tuple[str, ...]) -> None:
    given = ("--reference", "torch") if not words else ()
    refused = run("parity", "--model", CONFIG, "--ckpt", SWISH, "--function", "port", *given, *words)
    assert refused.exit_code == 2
    assert "the function is a candidate's; name one, or leave the function out (--candidate)" in refused.stderr


@pytest.mark.parametrize("command", ["tf2torch", "torch2tf"])
def test_another_number_of_classes_is_refused(command: str, tmp_path: Path) -> None:
    ours = tmp_path / "ours.safetensors"
    effconv.save(load_tiny(SWISH), ours)
    classes = load_tiny(SWISH).config.num_classes
    outputs = {"tf2torch": tmp_path / "x.safetensors", "torch2tf": tmp_path / "y"}
    read = ("--model", CONFIG, "--ckpt", SWISH) if command == "tf2torch" else (ours,)
    before = {*tmp_path.iterdir()}
    refused = run(command, *read, "-o", outputs[command], "--num-classes", classes + 1)
    assert refused.exit_code == 2
    assert f"expected {classes + 1} classes, found {classes}" in refused.stderr
    assert {*tmp_path.iterdir()} == before
    done = run(command, *read, "-o", outputs[command], "--num-classes", classes)
    assert done.exit_code == 0, done.output


def test_another_epsilon_is_made_up_for_or_is_said_to_be_official(
    tools_file: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytorch-tools' norm divides by the root of variance + 1e-5, TensorFlow's by that of variance + 1e-3."""
    path, tensors = tools_file
    stored = tensors["encoder.bn1.running_var"]
    with pytest.warns(
        PortWarning, match="its own batch norm has an epsilon of 1e-05, TensorFlow's of 1e-3, .* as its own"
    ):
        own = effconv.load(path).state_dict()[STEM].numpy()
    np.testing.assert_allclose(own.astype(np.float64) + 1e-3, stored.astype(np.float64) + 1e-5, rtol=1e-7)
    assert not np.array_equal(own, stored)
    official = effconv.load(path, function="official")
    assert np.array_equal(official.state_dict()[STEM].numpy(), stored)
    assert official.config == get_config("d0")
    found = Identification(known_checkpoints()[0], [])
    monkeypatch.setattr(loading, "identify_state", lambda *arguments: found)
    with pytest.warns(PortWarning, match="the values are of a release of Google's"):
        assert np.array_equal(effconv.load(path).state_dict()[STEM].numpy(), stored)


def test_mmdetection_s_own_training_codes_boxes_otherwise(tmp_path: Path) -> None:
    """With 80 classes it is another function, unless somebody says that it is not; with others nothing tells."""
    path = tmp_path / "mm.pth"
    for classes in (80, 3):
        shapes = expected(NAMINGS["mmdetection"], dataclasses.replace(get_config("d0"), num_classes=classes))
        torch.save({key: torch.full(shape, 0.5) for key, shape in shapes.items()}, path)
        if classes == 3:
            assert effconv.load(path).config.num_classes == 3
            continue
        for words in ((), ("--function", "port")):
            refused = run("convert", path, "-o", tmp_path / "x.safetensors", *words)
            assert refused.exit_code == 2, refused.output
            assert (
                "expected boxes coded as TensorFlow's (dy, dx, dh, dw), found as many classes as 80" in refused.stderr
            )
            assert refused.stderr.rstrip().endswith("say that the function is official (--function official)")
            assert len(refused.stderr.splitlines()) == 1
        assert effconv.load(path, function="official").config == dataclasses.replace(get_config("d0"), num_classes=80)
        assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.tf
def test_parity_names_it(file: Path) -> None:
    result = run("parity", "--model", CONFIG, "--ckpt", SWISH, "--candidate", file, "--explain", "--json")
    assert result.exit_code == 1, result.output
    record = json.loads(result.stdout)
    assert record["first_failure"] == "bifpn.extra_levels.6"
    assert [each["change"] for each in record["explanations"] if each["explains"]] == ["zero-padded-maxpool"]
