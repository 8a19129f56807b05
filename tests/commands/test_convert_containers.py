"""`effconv convert --container` and `effconv.save(container=...)`: every container that the official code reads."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import effconv
from effconv.cli import main
from effconv.commands.options import CONTAINERS
from effconv.convert.apply import plan
from effconv.convert.sources import Container, open_checkpoint
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.saving import CONTAINERS as WRITTEN

SWISH = Path(__file__).parents[1] / "golden" / "tiny-swish"
OF_TINY = ("--model", SWISH / "config.json")
PETS = dataclasses.replace(get_config("lite0"), num_classes=3)
KINDS = {"tf1": Container.TF1, "h5": Container.H5, "keras": Container.KERAS_OBJECTS}
ENDINGS = {"tf1": "", "h5": ".h5", "keras": ""}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def network() -> EfficientDet:
    torch.manual_seed(0)
    return EfficientDet(PETS)


@pytest.fixture(scope="module")
def weights(network: EfficientDet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "pets.safetensors"
    effconv.save(network, path)
    return path


def same(network: EfficientDet, path: Path) -> None:
    loaded = effconv.load(path, model="lite0")
    assert loaded.config.num_classes == PETS.num_classes
    ours, theirs = network.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(ours[key].numpy().tobytes() == theirs[key].numpy().tobytes() for key in ours)


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_is_written_recognised_and_read(
    container: str, network: EfficientDet, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"pets{ENDINGS[container]}"
    done = run("convert", weights, "-o", out, "--to", "tf", "--container", container, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["to"], told["container"], told["tensors"]) == ("tf", container, len(network.state_dict()))
    assert set(told["files"]) == {str(path) for path in tmp_path.iterdir()}
    same(network, out)
    inspected = json.loads(run("inspect", out, "--json").stdout)
    assert inspected["container"] == KINDS[container].value
    assert inspected["fits"][0].startswith("efficientdet-lite0 with 3 classes")
    # In Python, and on to another container.
    (tmp_path / "again").mkdir()
    effconv.save(network, tmp_path / "again" / out.name, to="tf", container=container)
    same(network, tmp_path / "again" / out.name)
    for path in (tmp_path / "again").iterdir():
        if path.suffix != ".json":  # a manifest says where weights are from
            assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    assert run("convert", out, "-o", tmp_path / "back.safetensors").exit_code == 0
    same(network, tmp_path / "back.safetensors")


def test_the_ending_says_h5_and_a_folder_stands_for_a_prefix(
    network: EfficientDet, weights: Path, tmp_path: Path
) -> None:
    assert run("convert", weights, "-o", tmp_path / "a.h5").exit_code == 0
    assert run("convert", weights, "-o", tmp_path / "b.h5", "--to", "tf").exit_code == 0
    effconv.save(network, tmp_path / "c.h5")
    assert len({(tmp_path / f"{name}.h5").read_bytes() for name in "abc"}) == 1
    assert json.loads((tmp_path / "a.h5.manifest.json").read_text())["source"] == {"file": weights.name}
    objects = ("--to", "tf", "--container", "keras")
    assert run("convert", weights, "-o", f"{tmp_path / 'new'}/", *objects).exit_code == 0
    assert open_checkpoint(tmp_path / "new").container is Container.KERAS_OBJECTS
    assert (tmp_path / "new" / "model.index").is_file()


@pytest.mark.parametrize("container", ["h5", "keras"])
def test_the_one_set_of_weights_is_the_chosen_one(container: str, tmp_path: Path) -> None:
    """Averages unless raw ones are asked for; a TF1 checkpoint alone has a place for both."""
    checkpoint = open_checkpoint(SWISH)
    config = get_config(str(SWISH / "config.json"))
    for chosen in ("ema", "raw"):
        out = tmp_path / f"{chosen}{ENDINGS[container]}"
        options = ("--weights", "raw") if chosen == "raw" else ()
        to = ("--to", "tf", "--container", container)
        assert run("convert", SWISH, "-o", out, *OF_TINY, *options, *to).exit_code == 0
        written = open_checkpoint(out)
        theirs = plan(checkpoint, config, chosen).rows
        assert theirs[0][1].endswith("/ExponentialMovingAverage") is (chosen == "ema")
        for (rule, ours), (_, name) in zip(plan(written, config).rows, theirs, strict=True):
            assert np.array_equal(written.read(ours), checkpoint.read(name)), rule.tf


@pytest.mark.parametrize(
    ("output", "arguments", "message"),
    [
        ("x.safetensors", ("--container", "h5"), "h5 is a container of TensorFlow's; ask for TensorFlow's (--to tf)"),
        ("x", ("--container", "keras"), "keras is a container of TensorFlow's; ask for TensorFlow's (--to tf)"),
        ("x.h5", ("--container", "h5"), "h5 is a container of TensorFlow's; ask for TensorFlow's (--to tf)"),
        ("x.pth", ("--to", "effdet", "--container", "tf1"), "tf1 is a container of TensorFlow's"),
        ("x.hdf", ("--to", "tf", "--container", "h5"), "Keras weights are a file ending in .h5; name the output so"),
        ("x.h5", ("--to", "tf", "--container", "keras"), "the ending of Keras weights; choose another"),
        ("x.h5", ("--to", "tf", "--container", "tf1"), "the ending of Keras weights; choose another"),
        ("x.h5", ("--to", "effdet"), "effdet (timm)'s weights are a file ending in .safetensors or .pth"),
        ("x.hdf", (), "expected .safetensors, .pth, .pt, .h5 or the prefix of a TensorFlow checkpoint"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    output: str, arguments: tuple[str, ...], message: str, weights: Path, tmp_path: Path
) -> None:
    done = run("convert", weights, "-o", tmp_path / output, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"effconv: {tmp_path / output}: ") or "effdet (timm)" in done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_save_refuses_the_same(network: EfficientDet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="container must be one of tf1, h5, keras or None, found 'onnx'"):
        effconv.save(network, tmp_path / "x", to="tf", container="onnx")
    with pytest.raises(EffconvError, match="h5 is a container of TensorFlow's"):
        effconv.save(network, tmp_path / "x.h5", container="h5")
    assert list(tmp_path.iterdir()) == []


def test_h5_of_the_users_is_left_alone(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.h5"
    shutil.copy(SWISH / "tiny-swish.h5", out)
    before = out.read_bytes()
    refused = run("convert", weights, "-o", out)
    assert (refused.exit_code, out.read_bytes()) == (2, before)
    assert "exists, and is not Keras weights (.h5) that effconv wrote" in refused.stderr
    assert run("convert", weights, "-o", out, "--force").exit_code == 0
    assert run("convert", SWISH, "-o", out, *OF_TINY).exit_code == 0  # effconv's now, and of another model
    (tmp_path / "y.h5.manifest.json").write_text("{}")
    refused = run("convert", weights, "-o", tmp_path / "y.h5")
    assert "y.h5.manifest.json: exists, and is not a manifest of weights that effconv wrote" in refused.stderr
    assert not (tmp_path / "y.h5").exists()


def test_object_checkpoint_of_the_users_is_left_alone(weights: Path, tmp_path: Path) -> None:
    folder, objects = tmp_path / "theirs", ("--to", "tf", "--container", "keras")
    shutil.copytree(SWISH / "keras", folder)
    refused = run("convert", weights, "-o", folder / "ckpt", *objects)
    assert refused.exit_code == 2
    assert "is not an exported checkpoint that effconv wrote" in refused.stderr
    for path in folder.iterdir():
        assert path.read_bytes() == (SWISH / "keras" / path.name).read_bytes()
    for container in ("keras", "tf1", "keras"):  # one takes the other's place
        assert run("convert", weights, "-o", tmp_path / "ours", "--to", "tf", "--container", container).exit_code == 0
        assert open_checkpoint(tmp_path / "ours").container is KINDS[container]


@pytest.mark.parametrize("container", CONTAINERS)
def test_torch2tf_writes_the_same_containers(
    container: str, network: EfficientDet, weights: Path, tmp_path: Path
) -> None:
    files = []
    for command in (("convert", "--to", "tf"), ("torch2tf",)):
        folder = tmp_path / command[0]
        folder.mkdir()
        out = folder / f"pets{ENDINGS[container]}"
        name, *words = command
        done = run(name, weights, "-o", out, *words, "--container", container)
        assert done.exit_code == 0, done.output
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1]
    same(network, out)


def test_torch2tf_tells_h5_by_its_ending_and_a_folder_is_a_prefix(weights: Path, tmp_path: Path) -> None:
    done = run("torch2tf", weights, "-o", tmp_path / "x.h5", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["container"] == "h5"
    assert open_checkpoint(tmp_path / "x.h5").container is Container.H5
    assert run("torch2tf", weights, "-o", f"{tmp_path / 'new'}/", "--container", "keras").exit_code == 0
    assert (tmp_path / "new" / "model.index").is_file()


@pytest.mark.parametrize(
    ("output", "words", "message"),
    [
        ("x.h5", ("--container", "tf1"), "the ending of Keras weights; choose another"),
        ("x.h5", ("--container", "keras"), "the ending of Keras weights; choose another"),
        ("x", ("--container", "h5"), "Keras weights are a file ending in .h5; name the output so"),
        ("x.h5", ("--ema", "{weights}"), "--ema: h5 holds one set of weights; leave it out, or write a TF1 checkpoint"),
        ("x", ("--container", "keras", "--ema", "{weights}"), "--ema: keras holds one set of weights; leave it out"),
    ],
)
def test_torch2tf_refuses_what_does_not_go_together(
    output: str, words: tuple[str, ...], message: str, weights: Path, tmp_path: Path
) -> None:
    done = run("torch2tf", weights, "-o", tmp_path / output, *(word.format(weights=weights) for word in words))
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_knows_every_container() -> None:
    assert CONTAINERS == WRITTEN == tuple(KINDS)
