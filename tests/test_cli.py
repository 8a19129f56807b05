"""The command line: contracts, exit statuses, and one or two clear lines instead of a traceback."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from effconv.cli import main
from effconv.convert.sources import open_checkpoint
from effconv.errors import CheckpointError
from effconv.loading import load


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refuse(*arguments: object, lines: int = 2) -> str:
    """Run a command on bad input: status 2, nothing on stdout, at most `lines` lines on stderr, which are returned."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) <= lines
    assert result.stderr.startswith("effconv: ")
    return result.stderr


def convert(folder: Path, output: Path, *options: object) -> Result:
    return run("tf2torch", "--model", folder / "config.json", "--ckpt", folder, "-o", output, *options)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "tf2torch",
        "torch2tf",
        "inspect",
        "identify",
        "models",
        "download",
        "demo",
        "parity",
        "trace",
        "bench",
        "bench convert",
    ],
)
def test_help_is_everywhere_under_both_names(command: str) -> None:
    short, long = (run(*command.split(), option) for option in ("-h", "--help"))
    assert short.exit_code == long.exit_code == 0
    assert short.stdout == long.stdout
    assert "Usage:" in short.stdout


def test_tf2torch_writes_weights_and_manifest(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    result = convert(tiny, output)
    assert result.exit_code == 0, result.output
    assert "moving averages converted" in result.stdout
    state = load_file(output)
    network = load(tiny, model=str(tiny / "config.json"))
    network.load_state_dict(state, strict=True)
    as_json = json.loads(convert(tiny, output, "--json").stdout)
    assert as_json.pop("output") == str(output)
    assert as_json.pop("manifest") == str(tmp_path / "out.manifest.json")
    assert as_json == json.loads((tmp_path / "out.manifest.json").read_text())


def test_tf2torch_takes_every_container(tiny: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as tar:
        tar.add(tiny, "packed", filter=lambda member: None if "keras" in member.name else member)
    sources = [
        tiny,
        tiny / "model",
        tiny / "model.index",
        tiny / "keras",
        tiny / f"{tiny.name}.h5",
        tmp_path / "packed.tar.gz",
    ]
    outputs = set()
    for number, source in enumerate(sources):
        output = tmp_path / f"{number}.safetensors"
        done = run("tf2torch", "--model", tiny / "config.json", "--ckpt", source, "-o", output)
        assert done.exit_code == 0, done.output
        outputs.add(output.read_bytes())
    assert len(outputs) == 1


def test_default_output_is_named_after_the_model(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("tf2torch", "--model", tiny / "config.json", "--ckpt", tiny).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{tiny.name}.manifest.json",
        f"{tiny.name}.safetensors",
    ]


def test_raw_weights_are_announced(tiny: Path, tmp_path: Path) -> None:
    result = convert(tiny, tmp_path / "raw.safetensors", "--weights", "raw")
    assert "note: raw weights used, as asked" in result.stdout
    assert json.loads((tmp_path / "raw.manifest.json").read_text())["weights"] == "raw"


def test_torch2tf_round_trip(tiny: Path, tmp_path: Path) -> None:
    for kind in ("raw", "ema"):
        convert(tiny, tmp_path / f"{kind}.safetensors", "--weights", kind)
    prefix = tmp_path / "back" / "model"
    result = run("torch2tf", tmp_path / "raw.safetensors", "--ema", tmp_path / "ema.safetensors", "-o", prefix)
    assert result.exit_code == 0, result.output
    original, written = open_checkpoint(tiny), open_checkpoint(prefix)
    ours = written.checksums()
    assert {name: crc for name, crc in original.checksums().items() if name in ours and name != "global_step"} == {
        name: crc for name, crc in ours.items() if name != "global_step"
    }
    only = json.loads(run("torch2tf", tmp_path / "ema.safetensors", "-o", tmp_path / "ema" / "model", "--json").stdout)
    assert only["model"] == tiny.name
    assert len(only["files"]) == 3


def test_torch2tf_takes_a_pth_with_the_model_named(tiny: Path, tmp_path: Path) -> None:
    network = load(tiny, model=str(tiny / "config.json"))
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "x.pth")
    assert "name its configuration" in refuse("torch2tf", tmp_path / "x.pth", "-o", tmp_path / "m")
    done = run("torch2tf", tmp_path / "x.pth", "--model", tiny / "config.json", "-o", tmp_path / "m")
    assert done.exit_code == 0, done.output
    back = load(tmp_path / "m", model=str(tiny / "config.json"))
    assert all(
        torch.equal(a, b) for a, b in zip(back.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_inspect(tiny: Path) -> None:
    text = run("inspect", tiny, "--tensors").stdout
    checkpoint = open_checkpoint(tiny)
    assert all(f"  {name}\n" in text for name in checkpoint.variables)
    found = json.loads(run("inspect", tiny, "--json", "--tensors").stdout)
    assert found["container"] == "TF1 checkpoint"
    assert found["variables"] == len(found["tensors"]) == len(checkpoint.variables)
    assert found["fits"] == ["no official model"]
    assert found["fingerprint"] == checkpoint.fingerprint()
    assert found["data"] == "every checksum holds"
    assert "tensors" not in json.loads(run("inspect", tiny / "keras", "--json").stdout)


def test_inspect_refuses_half_of_the_data_and_none(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "model.index").write_bytes((tiny / "model.index").read_bytes())
    data = tmp_path / "model.data-00000-of-00001"
    content = (tiny / data.name).read_bytes()
    data.write_bytes(content[: len(content) // 2])
    assert "the data file is cut off or of another checkpoint" in refuse("inspect", tmp_path)
    data.unlink()
    assert data.name in refuse("inspect", tmp_path)
    assert json.loads(run("inspect", tmp_path, "--no-verify", "--json").stdout)["data"] == "not checked"
    # An index by itself is what was asked for here.
    assert json.loads(run("inspect", tmp_path / "model.index", "--json").stdout)["data"] == "not checked"


@pytest.mark.shared
def test_inspect_and_identify_a_real_index_alone(shared: Path) -> None:
    index = shared / "facts" / "checkpoint_indexes" / "raw" / "efficientdet-d0.coco2.model.index"
    found = json.loads(run("inspect", index, "--json").stdout)
    assert found["fits"] == ["efficientdet-d0 (3,880,067 parameters)"]
    assert found["moving_averages"] == "709 of 709"
    assert found["release"] == "efficientdet-d0.coco2-343, by its index"
    named = run("identify", index)
    assert (named.exit_code, named.stdout.splitlines()[0]) == (0, f"{index}: efficientdet-d0.coco2-343")
    saved_model = index.with_name("efficientdet-d0.savedmodel.variables.index")
    assert "never filled" in run("inspect", saved_model).stdout


def test_identify_says_how_many_agree_when_it_is_none_and_exits_with_1(tiny: Path) -> None:
    named = run("identify", tiny)
    assert named.exit_code == 1
    assert "none of the known released checkpoints" in named.stdout
    assert named.stdout.count(" tensors agree with efficientdet-") == 7
    as_json = json.loads(run("identify", tiny, "--json").stdout)
    assert as_json["released_checkpoint"] is None
    assert len(as_json["agreements"]) == 7


def test_models_lists_all_with_parameters_and_generations() -> None:
    rows = json.loads(run("models", "--json").stdout)
    assert len(rows) == 26
    assert rows[0] == {
        "model": "efficientdet-d0",
        "image_size": [512, 512],
        "parameters": 3880067,
        "generations": ["coco2", "coco"],
    }
    text = run("models").stdout
    assert all(row["model"] in text for row in rows)
    assert "77,147,166" in text


# --- bad input ---------------------------------------------------------------------------------------------------


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
