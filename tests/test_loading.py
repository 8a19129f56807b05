"""`effconv.load`: every kind of weight file gives the same model, and what does not fit is named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import effconv
from effconv.convert import zoo
from effconv.convert.apply import IncompleteConversion
from effconv.convert.conversion import convert, write_weights
from effconv.convert.download import DownloadError
from effconv.convert.sources import open_checkpoint
from effconv.effdet_torch.config import ConfigError, get_config
from effconv.errors import CheckpointError
from effconv.parity.publishing.hub import read_source, write_hub


def config_path(folder: Path) -> str:
    return str(folder / "config.json")


def test_every_source_gives_the_same_model(tiny: Path, tmp_path: Path) -> None:
    config = get_config(config_path(tiny))
    write_weights(convert(open_checkpoint(tiny), config), tmp_path / "x.safetensors")
    write_hub(read_source(tiny, config_path(tiny)), tmp_path / "hub")
    reference = effconv.load(tiny, model=config)
    torch.save(reference.state_dict(), tmp_path / "x.pth")
    others = [
        effconv.load(str(tiny / "model"), model=config_path(tiny)),
        effconv.load(tiny / f"{tiny.name}.h5", model=config),
        effconv.load(tmp_path / "x.safetensors"),
        effconv.load(tmp_path / "x.safetensors", model=config),
        effconv.load(tmp_path / "x.pth", model=config),
        effconv.load(tmp_path / "hub"),
        effconv.load(str(tmp_path / "hub"), model=config_path(tiny)),
    ]
    for other in others:
        assert other.config == config
        for (name, ours), (key, theirs) in zip(reference.state_dict().items(), other.state_dict().items(), strict=True):
            assert name == key
            assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("number", [0, -1, 2.5, "3", True, 100_001])
def test_what_is_no_number_of_classes_is_named(number: object, tiny: Path) -> None:
    with pytest.raises(ConfigError, match=rf"num_classes must be an integer in 1..100000, found {number!r}"):
        effconv.load(tiny, model=config_path(tiny), num_classes=number)  # type: ignore[arg-type]


def test_another_number_of_classes_gets_new_predictions(tiny: Path) -> None:
    own = effconv.load(tiny, model=config_path(tiny))
    assert effconv.load(tiny, model=config_path(tiny), num_classes=own.config.num_classes).config == own.config
    other = effconv.load(tiny, model=config_path(tiny), num_classes=3)
    assert not other.training
    assert other.config.num_classes == 3
    assert [level.shape[1] for level in other(torch.zeros(1, 3, 128, 128))[0]] == [3 * own.config.num_anchors] * len(
        own.config.levels
    )
    pairs = zip(own.state_dict().items(), other.state_dict().items(), strict=True)
    new = {key for (key, value), (_, changed) in pairs if not torch.equal(value, changed)}
    assert new == {"class_head.predict.pointwise.weight", "class_head.predict.pointwise.bias"}


def test_a_models_name_is_its_release(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, bool]] = []

    def download(release: zoo.Release, *, verify: bool) -> zoo.Download:
        asked.append((release.model, verify))
        raise DownloadError("offline")

    monkeypatch.setattr(zoo, "download", download)
    monkeypatch.chdir(tmp_path)
    for name in ("d1", "B1", "efficientdet-d1"):
        with pytest.raises(DownloadError):
            effconv.load(name, verify=False)
    assert asked == [("efficientdet-d1", False)] * 3
    (tmp_path / "d1").symlink_to(tiny)  # a path goes first
    assert effconv.load("d1", model=config_path(tiny)).config.name == tiny.name
    with pytest.raises(CheckpointError, match="d11"):
        effconv.load("d11")
    assert len(asked) == 3


def test_loaded_model_is_in_eval_mode_float32_on_the_cpu_and_trainable(tiny: Path) -> None:
    model = effconv.load(tiny, model=config_path(tiny))
    assert not model.training
    assert not any(module.training for module in model.modules())
    assert {(p.dtype, p.device.type, p.requires_grad) for p in model.parameters()} == {(torch.float32, "cpu", True)}
    model.train()
    class_logits, box_codes = model(torch.randn(2, 3, 128, 128))
    sum(map_.square().mean() for map_ in (*class_logits, *box_codes)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_raw_weights_differ(tiny: Path) -> None:
    averages, raw = (effconv.load(tiny, model=config_path(tiny), weights=kind) for kind in ("ema", "raw"))
    assert not torch.equal(averages.backbone.stem.conv.weight, raw.backbone.stem.conv.weight)
    with pytest.raises(ValueError, match="weights must be 'ema', 'raw' or None, found 'best'"):
        effconv.load(tiny, model=config_path(tiny), weights="best")


def test_a_tensorflow_checkpoint_needs_its_model_named(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="name the model it is of"):
        effconv.load(tiny)


def test_safetensors_of_others_need_the_model_named(tiny: Path, tmp_path: Path) -> None:
    model = effconv.load(tiny, model=config_path(tiny))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "x.safetensors")
    with pytest.raises(
        CheckpointError, match=r"but no official model's tensors; nearest is .*, name its configuration"
    ):
        effconv.load(tmp_path / "x.safetensors")
    assert effconv.load(tmp_path / "x.safetensors", model=config_path(tiny)).config == model.config


def test_every_gap_of_a_state_dict_is_listed(tiny: Path, tmp_path: Path) -> None:
    state = effconv.load(tiny, model=config_path(tiny)).state_dict()
    del state["backbone.stem.conv.weight"]
    state["extra"] = torch.zeros(1)
    state["backbone.stem.norm.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(IncompleteConversion) as caught:
        effconv.load(tmp_path / "x.pth", model=config_path(tiny))
    message = str(caught.value)
    for name in ("backbone.stem.conv.weight", "extra", "backbone.stem.norm.bias"):
        assert name in message
    assert "1 missing from the file, 1 unknown to the model, 1 of another shape" in message


def test_hostile_configuration_inside_a_safetensors_is_refused(tiny: Path, tmp_path: Path) -> None:
    for text in ("[]", "{", '{"fpn_cells": 1e9}'):
        save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"effconv.config": text})
        with pytest.raises((CheckpointError, ConfigError), match=r"x\.safetensors"):
            effconv.load(tmp_path / "x.safetensors")


def test_package_offers_its_names_and_no_others() -> None:
    assert set(effconv.__all__) == set(dir(effconv))
    with pytest.raises(AttributeError, match="no attribute 'convert_everything'"):
        effconv.convert_everything  # noqa: B018


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_which_weights_is_not_asked_of_a_file_with_one_set(weights: str, tmp_path: Path) -> None:
    """It once was taken, and had no effect."""
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=f"holds one set of weights, so there are no {weights} ones") as caught:
        effconv.load(tmp_path / "x.safetensors", weights=weights)
    assert list(caught.value.parameters) == ["weights"]
