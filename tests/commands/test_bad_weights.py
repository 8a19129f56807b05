"""Weights and checkpoints that cannot be converted: one or two clear lines instead of a traceback."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from command_lines import convert, refuse, run

from effconv.errors import CheckpointError
from effconv.loading import load


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_bad_input_of_tf2torch(tiny: Path, tmp_path: Path) -> None:
    model, output = tiny / "config.json", tmp_path / "x.safetensors"

    def tf2torch(ckpt: Path, **options: object) -> str:
        return refuse(
            "tf2torch", "--model", options.get("model", model), "--ckpt", ckpt, "-o", options.get("o", output)
        )

    assert "no such checkpoint (absent.index is missing)" in tf2torch(tmp_path / "absent")
    assert "unknown model 'd9'" in tf2torch(tiny, model="d9")
    assert "x.bin: expected a file ending in .safetensors" in tf2torch(tiny, o=tmp_path / "x.bin")
    assert "not a TensorFlow checkpoint" in tf2torch(model)

    broken = copy_of(tiny, tmp_path / "no_shard")
    (broken / "model.data-00000-of-00001").unlink()
    assert "model.data-00000-of-00001: this part of the checkpoint cannot be read" in tf2torch(broken)

    broken = copy_of(tiny, tmp_path / "flipped")
    data = bytearray((broken / "model.data-00000-of-00001").read_bytes())
    data[len(data) // 2] ^= 4
    (broken / "model.data-00000-of-00001").write_bytes(bytes(data))
    assert "checksum" in tf2torch(broken)
    assert (
        run("tf2torch", "--model", model, "--ckpt", broken, "-o", tmp_path / "y.safetensors", "--no-verify").exit_code
        == 0
    )

    broken = copy_of(tiny, tmp_path / "cut")
    index = (broken / "model.index").read_bytes()
    (broken / "model.index").write_bytes(index[: len(index) // 2])
    assert "model.index: footer" in tf2torch(broken)
    assert not output.exists()
    assert not output.with_suffix(".manifest.json").exists()


def test_checkpoint_of_another_model_names_it(tmp_path: Path) -> None:
    import numpy as np

    from effconv.convert.conversion import write_checkpoint
    from effconv.convert.rules import rules
    from effconv.effdet_torch.config import get_config

    config = get_config("lite1")
    state = {rule.torch: np.zeros(rule.layout.torch_shape(rule.shape), np.float32) for rule in rules(config)}
    write_checkpoint(state, state, config, tmp_path / "model", "zeros")
    message = refuse("tf2torch", "--model", "d0", "--ckpt", tmp_path, "-o", tmp_path / "x.safetensors")
    assert "efficientdet-lite1 (--model lite1)" in message


class Hostile:
    def __reduce__(self) -> tuple:
        return print, ("this ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Hostile(), "holds Python objects other than tensors"),
        ({"a": 1}, "expected tensors alone, found other values: a"),
        ({}, "expected a state dict of tensors, found dict"),
        ([torch.zeros(1)], "expected a state dict of tensors, found list"),
        ({"a": torch.zeros(1).to_sparse()}, "save it in float32"),
    ],
)
def test_pth_that_is_not_plain_tensors(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    stderr = refuse("torch2tf", tmp_path / "x.pth", "--model", "d0", "-o", tmp_path / "m")
    assert message in stderr
    assert "this ran" not in stderr


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04" + b"\0" * 50, b"\x80\x02}q\x00."])
def test_pth_that_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    assert "x.pth" in refuse("torch2tf", tmp_path / "x.pth", "--model", "d0", "-o", tmp_path / "m")


def test_nonfinite_weights_are_refused_on_the_way_back_too(tiny: Path, tmp_path: Path) -> None:
    network = load(tiny, model=str(tiny / "config.json"))
    with torch.no_grad():
        network.backbone.stem.norm.bias[0] = float("nan")
        network.box_head.predict.pointwise.bias[1] = float("inf")
    torch.save(network.state_dict(), tmp_path / "x.pth")
    command = ("torch2tf", tmp_path / "x.pth", "--model", tiny / "config.json", "-o", tmp_path / "m")
    stderr = refuse(*command)
    assert "2 weights are not finite" in stderr
    assert "backbone.stem.norm.bias (1 NaN, 0 infinite)" in stderr
    assert "box_head.predict.pointwise.bias (0 NaN, 1 infinite)" in stderr
    assert not list(tmp_path.glob("m.*"))
    assert run(*command, "--allow-nonfinite").exit_code == 0
    for path in (tmp_path / "x.pth", tmp_path / "m"):
        with pytest.raises(CheckpointError, match="allow_nonfinite=True"):
            load(path, model=str(tiny / "config.json"))
        loaded = load(path, model=str(tiny / "config.json"), allow_nonfinite=True)
        assert loaded.backbone.stem.norm.bias[0].isnan()


def test_weights_that_are_not_finite_advise_what_the_command_has(tiny: Path, tmp_path: Path) -> None:
    network = load(tiny, model=str(tiny / "config.json"))
    with torch.no_grad():
        network.backbone.stem.norm.bias[0] = float("nan")
    torch.save(network.state_dict(), tmp_path / "x.pth")
    model = ("--model", tiny / "config.json")
    (tmp_path / "x.jpg").touch()
    has = refuse("torch2tf", tmp_path / "x.pth", *model, "-o", tmp_path / "m")
    has_not = refuse("predict", tmp_path / "x.jpg", "--ckpt", tmp_path / "x.pth", *model, "-o", tmp_path / "out")
    assert has == f"{has_not.strip()}; --allow-nonfinite takes them as they are\n"
    assert "--allow-nonfinite" not in has_not


def test_long_lists_of_names_are_cut_and_whole_in_json(tiny: Path, tmp_path: Path) -> None:
    network = load(tiny, model=str(tiny / "config.json"))
    strangers = {f"{key}.x": value for key, value in network.state_dict().items()}
    torch.save(network.state_dict() | strangers, tmp_path / "x.pth")
    command = ("torch2tf", tmp_path / "x.pth", "--model", tiny / "config.json", "-o", tmp_path / "m")
    unknown = sorted(strangers)
    stderr = refuse(*command)
    assert f"unknown to the model: {', '.join(unknown[:5])} and {len(unknown) - 5} more; --json lists all" in stderr
    assert len(stderr) < 1000
    result = run(*command, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["unknown to the model"] == unknown
    assert "--json" not in result.stderr


def test_other_bad_input_of_torch2tf(tiny: Path, tmp_path: Path) -> None:
    convert(tiny, tmp_path / "x.safetensors")
    weights = tmp_path / "x.safetensors"
    assert "does not fit efficientdet-d0" in refuse("torch2tf", weights, "--model", "d0", "-o", tmp_path / "m")
    assert "expected PyTorch weights" in refuse("torch2tf", tiny, "-o", tmp_path / "m")
    assert "cannot be written" in refuse("torch2tf", weights, "-o", weights / "model")
    assert not list(tmp_path.glob("m.*"))
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:-1])
    assert "cut.safetensors: not a readable" in refuse("torch2tf", tmp_path / "cut.safetensors", "-o", tmp_path / "m")


@pytest.mark.parametrize("command", ["inspect", "identify"])
def test_reports_on_what_is_no_checkpoint(command: str, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"nothing")
    assert "x.tar.gz: not a readable tar archive" in refuse(command, tmp_path / "x.tar.gz")
    assert "expected one checkpoint, found none" in refuse(command, tmp_path)
