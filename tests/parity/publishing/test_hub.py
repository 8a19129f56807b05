"""`effconv export hub`: a folder that is loaded as it is, whole or not there, refused where it contradicts itself."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import effconv
from effconv.cli import main
from effconv.convert.hub_folder import folder_config, weights_in
from effconv.effdet_torch.config import VARIANTS, Config
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import CheckpointError

GOLDEN = Path(__file__).parents[2] / "golden"
LITE = GOLDEN / "tiny-lite"
OF_LITE = ("--model", LITE / "config.json", "--ckpt", LITE)
FILES = ["README.md", "config.json", "model.manifest.json", "model.safetensors"]


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    found = run("export", "hub", *OF_LITE, "-o", tmp_path / "hub", "--json")
    assert found.exit_code == 0, found.stderr
    assert sorted(json.loads(found.stdout)["files"]) == [str(tmp_path / "hub" / name) for name in FILES]
    assert sorted(content(tmp_path / "hub")) == FILES
    return tmp_path / "hub"


def same(one: EfficientDet, other: EfficientDet) -> None:
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for ours, theirs in zip(one(images), other(images), strict=True):
            assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


def test_the_same_outputs_bit_for_bit(hub: Path, tmp_path: Path) -> None:
    loaded = effconv.load(hub)
    same(loaded, effconv.load(LITE, model=str(LITE / "config.json")))
    assert run("tf2torch", *OF_LITE, "-o", tmp_path / "w.safetensors").exit_code == 0
    assert (tmp_path / "w.safetensors").read_bytes() == (hub / "model.safetensors").read_bytes()
    torch.save(loaded.state_dict(), tmp_path / "w.pth")
    for name, words in {
        "ours": ("--ckpt", tmp_path / "w.safetensors"),
        "folder": ("--ckpt", hub),
        "pth": ("--ckpt", tmp_path / "w.pth", "--model", LITE / "config.json"),
    }.items():
        found = run("export", "hub", *words, "-o", tmp_path / name)
        assert found.exit_code == 0, found.stderr
        same(loaded, effconv.load(tmp_path / name))
        if name != "pth":  # which does not know the checkpoint, nor which weights it holds
            assert content(tmp_path / name) == content(hub)
    raw = tmp_path / "raw"
    assert run("export", "hub", *OF_LITE, "--weights", "raw", "-o", raw).exit_code == 0
    assert (raw / "model.safetensors").read_bytes() != (hub / "model.safetensors").read_bytes()
    assert "the raw weights" in (raw / "README.md").read_text()


def test_commands_take_the_folder_as_they_take_its_file(hub: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / "a.jpg")
    for words in (
        ("inspect", "{}", "--json"),
        ("identify", "{}", "--json"),
        ("torch2tf", "{}", "-o", tmp_path / "back" / "model", "--json"),
        ("predict", tmp_path / "a.jpg", "--ckpt", "{}", "-o", tmp_path / "found", "--json"),
        ("tf2torch", "--model", LITE / "config.json", "--ckpt", "{}", "-o", tmp_path / "no.safetensors"),
    ):
        found = []
        for path in (hub, hub / "model.safetensors"):
            each = run(*(str(word).format(path) for word in words))
            found.append((each.exit_code, re.sub(r'"seconds": .*|"images_per_second": .*', "", each.stdout)))
        assert found[0] == found[1], words
        assert found[0][0] == {"tf2torch": 2, "identify": 1}.get(str(words[0]), 0)
    message = run("tf2torch", "--model", "d0", "--ckpt", hub, "-o", tmp_path / "no.safetensors").stderr
    assert "model.safetensors: not a TensorFlow checkpoint" in message


def test_the_cards_example_runs_in_the_folder(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (hub / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(hub)
    Image.new("RGB", (120, 90), (9, 200, 90)).save("photo.jpg")
    exec(compile(example.replace("0.3", "0.0"), "README.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["config"].update(anchor_scale=4.5), "config.anchor_scale (expected 3.0, found 4.5)"),
        (lambda found: found["config"].pop("mean"), "config.mean (expected"),
        (lambda found: found["config"].update(more=1), "config.more (expected None, found 1)"),
        (lambda found: found.update(model="efficientdet-d0"), "model (expected 'tiny-lite', found 'efficientdet-d0')"),
        (lambda found: found["categories"].update({"1": "cat"}), "categories.1 (expected 'category 1', found 'cat')"),
        (lambda found: found["input"].update(image_std=[1, 1, 1]), "input.image_std (expected"),
        (lambda found: found.pop("config"), "config (expected"),
        (lambda found: found.update(config=[]), "config (expected"),
        (lambda found: found.pop("effconv"), "not written by effconv"),
    ],
)
def test_a_configuration_of_other_weights_is_refused(change: object, message: str, hub: Path) -> None:
    found = json.loads((hub / "config.json").read_text())
    change(found)  # type: ignore[operator]
    (hub / "config.json").write_text(json.dumps(found))
    with pytest.raises(CheckpointError) as caught:
        effconv.load(hub)
    assert message in str(caught.value)
    refused = run("inspect", hub)
    assert (refused.exit_code, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
    assert str(caught.value) in refused.stderr
    effconv.load(hub / "model.safetensors")  # as the message says


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ud800"])
def test_a_configuration_that_cannot_be_read_is_refused(text: str, hub: Path) -> None:
    (hub / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"config\.json: not a readable configuration"):
        effconv.load(hub)


def test_other_keys_and_versions_are_taken(hub: Path) -> None:
    found = json.loads((hub / "config.json").read_text())
    (hub / "config.json").write_text(json.dumps(found | {"effconv": "0.0.9", "downloads": 3}))
    assert weights_in(hub) == hub / "model.safetensors"


def test_damage_is_refused_as_of_a_file(hub: Path) -> None:
    weights = hub / "model.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-9] + bytes([sound[-9] ^ 4]) + sound[-8:])
    messages = []
    for path in (hub, weights):
        with pytest.raises(CheckpointError, match="is damaged") as caught:
            effconv.load(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    for broken in (b"", sound[:1000]):
        weights.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"not a readable \.safetensors file"):
            effconv.load(hub)


def test_a_checkpoint_beside_it_is_told_apart(hub: Path, tmp_path: Path) -> None:
    shutil.copytree(LITE, tmp_path / "tf")  # it has a config.json, of `effconv config`
    shutil.copy(hub / "model.safetensors", tmp_path / "tf")
    assert weights_in(tmp_path / "tf") == tmp_path / "tf"
    same(effconv.load(tmp_path / "tf", model=str(LITE / "config.json")), effconv.load(hub))
    shutil.copy(hub / "config.json", tmp_path / "tf")
    with pytest.raises(CheckpointError, match="and a TensorFlow checkpoint; name the file that is meant"):
        effconv.load(tmp_path / "tf")
    for name in ("config.json", "model.safetensors"):  # one of them is no such folder
        alone = tmp_path / f"only-{name}"
        alone.mkdir()
        shutil.copy(hub / name, alone)
        assert weights_in(alone) == alone


@pytest.mark.parametrize("name", FILES)
def test_what_effconv_did_not_write_stays(name: str, hub: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / name).write_text("mine")
    found = run("export", "hub", *OF_LITE, "-o", folder)
    assert (found.exit_code, len(found.stderr.splitlines())) == (2, 1)
    assert f"{folder / name}: exists, and is not" in found.stderr
    assert content(folder) == {name: b"mine"}
    assert run("export", "hub", *OF_LITE, "-o", folder, "--force").exit_code == 0
    assert content(folder) == content(hub)
    for again in (OF_LITE, ("--ckpt", folder)):  # its own, and of itself
        assert run("export", "hub", *again, "-o", folder).exit_code == 0
        assert content(folder) == content(hub)


def test_a_record_of_others_leaves_nothing(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{}")
    before = content(hub)
    for folder in (tmp_path / "new", hub):
        assert run("export", "hub", *OF_LITE, "-o", folder, "--eval", tmp_path / "r.json").exit_code == 2
    assert not (tmp_path / "new").exists()
    assert content(hub) == before


@pytest.mark.parametrize("config", [VARIANTS["efficientdet-d0"], VARIANTS["efficientdet-d0-advprop"]])
def test_what_a_configuration_says(config: Config) -> None:
    found = folder_config(config)
    assert found["categories"]["1"] == "person"
    assert len(found["categories"]) == 90
    pixel = np.array([0.0, 255.0])
    mean, std = np.array(found["input"]["image_mean"]), np.array(found["input"]["image_std"])
    normalised = (pixel[:, None] - mean) / std
    if config.unit_range:
        assert normalised.tolist() == [[-1.0] * 3, [1.0] * 3]
    else:
        np.testing.assert_allclose(normalised[1], (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], 1e-6)
