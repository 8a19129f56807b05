"""Accounting for every variable: what is used, what is left out and why, and every fault listed at once."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from effconv.convert.apply import EMA_SUFFIX, IncompleteConversion, apply_inverse, plan
from effconv.convert.conversion import (
    convert,
)
from effconv.convert.rules import rules
from effconv.convert.sources import Checkpoint, Container, Variable, open_checkpoint
from effconv.effdet_torch.config import VARIANTS, get_config
from effconv.errors import CheckpointError
from tensors import config_of, read_all, write_tensors


def test_missing_extra_and_misshapen_are_all_listed_at_once(tiny: Path, tmp_path: Path) -> None:
    tensors = read_all(tiny)
    missing = ["class_net/class-predict/bias", "box_net/box-0/bias"]
    for name in missing:
        del tensors[name + EMA_SUFFIX]
    misshapen = "resample_p6/bn/gamma" + EMA_SUFFIX
    tensors[misshapen] = np.zeros(3, np.float32)
    wrong_type = "resample_p6/bn/beta" + EMA_SUFFIX
    tensors[wrong_type] = tensors[wrong_type].astype(np.float64)
    tensors["segmentation/kernel"] = np.zeros(2, np.float32)
    tensors["box_net/unheard_of/Momentum"] = np.zeros(2, np.float32)
    path = write_tensors(tmp_path / "model", tensors)
    with pytest.raises(IncompleteConversion) as caught:
        convert(open_checkpoint(path), config_of(tiny))
    message = str(caught.value)
    assert caught.value.lists["missing from the file"] == sorted((n + EMA_SUFFIX for n in missing), reverse=True)
    assert sorted(caught.value.lists["unknown to the model"]) == ["box_net/unheard_of/Momentum", "segmentation/kernel"]
    assert f"{misshapen} (expected float32 [16], found float32 [3])" in message
    assert f"{wrong_type} (expected float32 [16], found float64 [16])" in message
    assert "2 missing from the file, 2 unknown to the model, 2 of another shape or type" in message
    for name in (*missing, "segmentation/kernel", "box_net/unheard_of/Momentum"):
        assert name in message


def stub_checkpoint(model: str, suffixes: tuple[str, ...] = ("", EMA_SUFFIX)) -> Checkpoint:
    variables = {
        rule.tf + suffix: Variable("float32", rule.shape) for rule in rules(VARIANTS[model]) for suffix in suffixes
    }
    checkpoint = Checkpoint(
        Path("somewhere"), Container.TF1, variables, lambda name: np.zeros(variables[name].shape), None
    )
    checkpoint.checksums = lambda: dict.fromkeys(variables, 0)  # type: ignore[method-assign]
    return checkpoint


@pytest.mark.parametrize(
    ("given", "asked", "advice"),
    [
        ("efficientdet-d1", "d0", "d1"),
        ("efficientdet-d0", "d1", "d0"),
        ("efficientdet-d7", "d7x", "d6 or d7"),
        ("efficientdet-lite3x", "lite3", "lite3x"),
    ],
)
def test_checkpoint_of_another_model_is_recognised(given: str, asked: str, advice: str) -> None:
    with pytest.raises(IncompleteConversion) as caught:
        plan(stub_checkpoint(given), get_config(asked))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    found = " and ".join(f"efficientdet-{name}" for name in advice.split(" or "))
    assert lines[1] == f"Its tensors are those of {found}"
    assert caught.value.parameters == {"model": advice}


def test_the_right_model_with_something_extra_is_not_called_another() -> None:
    checkpoint = stub_checkpoint("efficientdet-d0")
    checkpoint.variables["extra"] = Variable("float32", (1,))
    with pytest.raises(IncompleteConversion) as caught:
        plan(checkpoint, get_config("d0-advprop"))
    assert str(caught.value).endswith("1 unknown to the model\nunknown to the model: extra")


def test_80_classes_instead_of_90_do_not_fit() -> None:
    config = dataclasses.replace(get_config("d0"), num_classes=80)
    with pytest.raises(IncompleteConversion) as caught:
        plan(stub_checkpoint("efficientdet-d0"), config)
    assert list(caught.value.lists) == ["of another shape or type"]
    assert len(caught.value.lists["of another shape or type"]) == 2  # the class head's last kernel and bias


@pytest.mark.parametrize("model", ["d0", "d2-640", "d0-advprop"])
def test_variants_that_share_variables_take_the_same_checkpoint(model: str) -> None:
    base = get_config(model).name.removesuffix("-640").removesuffix("-advprop")
    assert plan(stub_checkpoint(base), get_config(model)).weights == "ema"


def test_weights_choice(tiny: Path) -> None:
    config = config_of(tiny)
    assert "moving averages" in plan(open_checkpoint(tiny), config, "raw").notice
    assert plan(open_checkpoint(tiny), config, "raw").weights == "raw"
    for part in ("keras", f"{tiny.name}.h5"):
        chosen = plan(open_checkpoint(tiny / part), config)
        assert (chosen.weights, chosen.notice[:18]) == ("only", "no moving averages")
        with pytest.raises(CheckpointError, match="it holds no moving averages; use the raw weights"):
            plan(open_checkpoint(tiny / part), config, "ema")


def test_partial_moving_averages_are_a_fault_not_a_mixture(tiny: Path, tmp_path: Path) -> None:
    tensors = read_all(tiny)
    del tensors["resample_p6/bn/moving_mean" + EMA_SUFFIX]
    checkpoint = open_checkpoint(write_tensors(tmp_path / "model", tensors))
    with pytest.raises(IncompleteConversion, match=r"resample_p6/bn/moving_mean/ExponentialMovingAverage"):
        plan(checkpoint, config_of(tiny))
    assert plan(checkpoint, config_of(tiny), "raw").weights == "raw"


@pytest.mark.shared
def test_exported_saved_model_does_not_give_its_unfilled_averages(shared: Path) -> None:
    # The official export restores the averages into the plain variables and leaves the shadows as they were made.
    index = shared / "facts" / "checkpoint_indexes" / "raw" / "efficientdet-d0.savedmodel.variables.index"
    chosen = plan(open_checkpoint(index), get_config("d0"))
    assert chosen.weights == "only"
    assert "exported SavedModel" in chosen.notice
    assert not any(name.endswith(EMA_SUFFIX) for _, name in chosen.rows)
    with pytest.raises(CheckpointError, match="moving averages hold their initial values"):
        plan(open_checkpoint(index), get_config("d0"), "ema")


def test_unfilled_averages_are_recognised_by_their_values(tiny: Path, tmp_path: Path) -> None:
    config, tensors = config_of(tiny), read_all(tiny)
    plain = {rule.tf: tensors[rule.tf] for rule in rules(config)}
    shadows = {
        name + EMA_SUFFIX: np.full(value.shape, name.endswith(("gamma", "moving_variance")), np.float32)
        for name, value in plain.items()
    }
    checkpoint = open_checkpoint(write_tensors(tmp_path / "model", plain | shadows))
    chosen = plan(checkpoint, config)
    assert chosen.weights == "only"
    assert set(chosen.dropped.values()) == {"moving average that was never filled"}
    shadows["resample_p6/bn/beta" + EMA_SUFFIX] += 1e-9
    checkpoint = open_checkpoint(write_tensors(tmp_path / "other", plain | shadows))
    assert plan(checkpoint, config).weights == "ema"


def test_keras_average_slots_are_the_moving_averages(tiny: Path, tmp_path: Path) -> None:
    config, tensors = config_of(tiny), read_all(tiny / "keras")
    suffix, objects = "/.ATTRIBUTES/VARIABLE_VALUE", dict(tensors)
    for rule in rules(config):
        objects[f"{rule.object_path}/.OPTIMIZER_SLOT/optimizer/average{suffix}"] = tensors[rule.object_key] + 1
        objects[f"{rule.object_path}/.OPTIMIZER_SLOT/optimizer/momentum{suffix}"] = tensors[rule.object_key]
    objects[f"save_counter{suffix}"] = np.array(3, np.int64)
    objects[f"optimizer/iter{suffix}"] = np.array(3, np.int64)
    objects["_CHECKPOINTABLE_OBJECT_GRAPH"] = np.array(0, np.int64)  # a string in truth; only its name counts here
    checkpoint = open_checkpoint(write_tensors(tmp_path / "ckpt", objects))
    state = convert(checkpoint, config).state
    assert checkpoint.container is Container.KERAS_OBJECTS
    for rule in rules(config):
        assert np.array_equal(state[rule.torch], rule.layout.to_torch(tensors[rule.object_key] + 1))
    dropped = plan(checkpoint, config).dropped
    assert {"optimizer slot", "optimizer state", "save counter"} <= set(dropped.values())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_weights_are_named_and_refused_unless_allowed(bad: float, tiny: Path, tmp_path: Path) -> None:
    tensors = {name: np.array(value) for name, value in read_all(tiny).items()}
    first, second = "box_net/box-0/bias" + EMA_SUFFIX, "resample_p6/conv2d/kernel" + EMA_SUFFIX
    tensors[first][0] = bad
    tensors[second][0, 0, 3, 4] = bad
    tensors["class_net/class-0/bias"][1] = bad  # a raw weight that is not used
    path = write_tensors(tmp_path / "model", tensors)
    with pytest.raises(CheckpointError, match="2 weights are not finite; use weights of an earlier step") as caught:
        convert(open_checkpoint(path), config_of(tiny))
    assert first in str(caught.value)
    assert second in str(caught.value)
    state = convert(open_checkpoint(path), config_of(tiny), allow_nonfinite=True).state
    assert not np.isfinite(state["box_head.convs.0.pointwise.bias"][0])


def test_an_unused_damaged_tensor_stops_the_conversion(tiny: Path, tmp_path: Path) -> None:
    tensors = read_all(tiny)
    path = write_tensors(tmp_path / "model", tensors)
    name = "class_net/class-0/bias"  # raw; the moving average is what is used
    data = tmp_path / "model.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    place = content.find(tensors[name].tobytes())
    content[place] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=f"variable {name}: checksum"):
        convert(open_checkpoint(path), config_of(tiny))
    assert convert(open_checkpoint(path, verify=False), config_of(tiny), verify=False).state


def test_inverse_lists_every_gap(tiny: Path) -> None:
    config = config_of(tiny)
    state = dict(convert(open_checkpoint(tiny), config).state)
    del state["backbone.stem.norm.bias"]
    state["extra"] = np.zeros(1, np.float32)
    state["box_head.predict.pointwise.bias"] = np.zeros(3, np.float32)
    with pytest.raises(IncompleteConversion) as caught:
        apply_inverse(state, config, "x.safetensors")
    assert {label: len(names) for label, names in caught.value.lists.items()} == {
        "missing from the file": 1,
        "unknown to the model": 1,
        "of another shape or type": 1,
    }
