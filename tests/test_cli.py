"""The command line: contracts, exit statuses, and what is printed."""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from command_lines import convert, refuse, run
from safetensors.torch import load_file

from effconv.convert.sources import open_checkpoint
from effconv.loading import load


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
    outputs = []
    for number, source in enumerate(sources):
        output = tmp_path / f"{number}.safetensors"
        done = run("tf2torch", "--model", tiny / "config.json", "--ckpt", source, "-o", output)
        assert done.exit_code == 0, done.output
        outputs.append(output)
    # Those of Keras hold one set of weights, and do not say whether it is the averages; the file does not either.
    with_averages = {path.read_bytes() for path in (*outputs[:3], outputs[5])}
    one_set = {path.read_bytes() for path in outputs[3:5]}
    assert (len(with_averages), len(one_set)) == (1, 1)
    first, other = (load_file(path) for path in (outputs[0], outputs[3]))
    assert first.keys() == other.keys()
    assert all(torch.equal(first[key], other[key]) for key in first)


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
