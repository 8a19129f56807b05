"""Checkpoint to weights and back: every variable accounted for, every bit kept, nothing half-written."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from effconv.convert.apply import EMA_SUFFIX, IncompleteConversion, apply_inverse, plan
from effconv.convert.bundle import write_bundle
from effconv.convert.conversion import (
    Conversion,
    OutputError,
    convert,
    read_weights,
    rule_table_digest,
    write_checkpoint,
    write_weights,
)
from effconv.convert.rules import rules
from effconv.convert.sources import Checkpoint, Container, Variable, open_checkpoint
from effconv.effdet_torch.config import VARIANTS, Config, get_config
from effconv.errors import CheckpointError

Tensors = dict[str, np.ndarray]


def config_of(folder: Path) -> Config:
    return get_config(str(folder / "config.json"))


def read_all(path: Path) -> Tensors:
    checkpoint = open_checkpoint(path)
    return {
        name: checkpoint.read(name) for name, variable in checkpoint.variables.items() if variable.dtype != "string"
    }


def write_tensors(prefix: Path, tensors: Tensors) -> Path:
    index, data = write_bundle(tensors)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(prefix.name + ".index").write_bytes(index)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(b"".join(array.tobytes() for array in data))
    return prefix


def same_bits(ours: Tensors, theirs: Tensors) -> None:
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        other = theirs[name]
        assert (array.dtype, array.shape, array.tobytes()) == (other.dtype, other.shape, other.tobytes()), name


def test_three_containers_give_the_same_bits(tiny: Path) -> None:
    config = config_of(tiny)
    checkpoint, objects, h5 = (
        convert(open_checkpoint(tiny / part), config).state for part in ("model", "keras", f"{tiny.name}.h5")
    )
    same_bits(checkpoint, objects)
    same_bits(checkpoint, h5)
    assert list(checkpoint) == [rule.torch for rule in rules(config)]


def test_values_are_the_moving_averages_with_axes_moved(tiny: Path) -> None:
    config, tensors = config_of(tiny), read_all(tiny)
    state = convert(open_checkpoint(tiny), config).state
    raw = convert(open_checkpoint(tiny), config, "raw").state
    for rule in rules(config):
        moved = {4: (2, 3, 0, 1) if "depthwise_kernel" in rule.tf else (3, 2, 0, 1)}.get(len(rule.shape))
        for values, name in ((state, rule.tf + EMA_SUFFIX), (raw, rule.tf)):
            expected = tensors[name] if moved is None else tensors[name].transpose(moved)
            assert np.array_equal(values[rule.torch], expected), name


def test_every_variable_is_accounted_for_with_a_reason(tiny: Path) -> None:
    checkpoint = open_checkpoint(tiny)
    conversion = convert(checkpoint, config_of(tiny))
    used = {name for _, name in conversion.plan.rows}
    assert used | set(conversion.plan.dropped) == set(checkpoint.variables)
    assert not used & set(conversion.plan.dropped)
    assert all(conversion.plan.dropped.values())
    reasons = set(conversion.plan.dropped.values())
    slots = {"optimizer slot"} if tiny.name == "tiny-swish" else set()
    assert reasons == {"raw weight; its moving average is used", "training step counter"} | slots
    assert conversion.plan.weights == "ema"
    assert conversion.plan.notice == ""


def test_tf_to_torch_to_tf_is_byte_identical(tiny: Path, tmp_path: Path) -> None:
    config, original = config_of(tiny), read_all(tiny)
    raw, averages = (convert(open_checkpoint(tiny), config, weights).state for weights in ("raw", "ema"))
    write_checkpoint(raw, averages, config, tmp_path / "model", "test")
    written = read_all(tmp_path)
    kept = {name: value for name, value in original.items() if not name.endswith("/Momentum") and name != "global_step"}
    assert written.pop("global_step") == 0
    same_bits(written, kept)
    if tiny.name != "tiny-swish":  # a release-style checkpoint has nothing else, so its files come back too
        for name in ("model.index", "model.data-00000-of-00001", "checkpoint"):
            assert (tmp_path / name).read_bytes() == (tiny / name).read_bytes()


def test_torch_to_tf_to_torch_is_byte_identical(tiny: Path, tmp_path: Path) -> None:
    config = config_of(tiny)
    random = np.random.default_rng(0)
    shapes = {rule.torch: rule.layout.torch_shape(rule.shape) for rule in rules(config)}
    raw, averages = ({key: random.standard_normal(s).astype(np.float32) for key, s in shapes.items()} for _ in "ab")
    write_checkpoint(raw, averages, config, tmp_path / "d" / "model", "test")
    same_bits(convert(open_checkpoint(tmp_path / "d"), config).state, averages)
    same_bits(convert(open_checkpoint(tmp_path / "d"), config, "raw").state, raw)


@pytest.mark.tf
def test_tensorflow_reads_what_torch2tf_writes(tiny: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    config = config_of(tiny)
    raw, averages = (convert(open_checkpoint(tiny), config, weights).state for weights in ("raw", "ema"))
    write_checkpoint(raw, averages, config, tmp_path / "model", "test")
    reader = tf.train.load_checkpoint(str(tmp_path))  # through the `checkpoint` file
    theirs = {name: np.asarray(reader.get_tensor(name)) for name in sorted(reader.get_variable_to_shape_map())}
    original = tf.train.load_checkpoint(str(tiny / "model"))
    assert theirs.pop("global_step") == 0
    assert set(theirs) == {rule.tf + suffix for rule in rules(config) for suffix in ("", EMA_SUFFIX)}
    for name, array in theirs.items():
        assert array.tobytes() == np.asarray(original.get_tensor(name)).tobytes(), name


def test_weights_file_round_trip_is_deterministic_and_says_where_it_came_from(tiny: Path, tmp_path: Path) -> None:
    config = config_of(tiny)
    conversion = convert(open_checkpoint(tiny), config)
    for name in ("a", "b"):
        write_weights(conversion, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    state, stored = read_weights(tmp_path / "a.safetensors")
    same_bits(dict(sorted(state.items())), dict(sorted(conversion.state.items())))
    assert stored == config
    manifest = json.loads((tmp_path / "a.json").read_text())
    assert manifest["weights"] == "ema"
    assert manifest["source"]["container"] == "TF1 checkpoint"
    assert manifest["source"]["fingerprint"] == open_checkpoint(tiny).fingerprint()
    assert manifest["source"]["checksums_verified"] is True
    assert manifest["rule_table"] == rule_table_digest(config)
    assert manifest["dropped"] == conversion.plan.dropped
    assert manifest["tensors"] == len(state)


def test_rule_table_digest_tells_models_apart_and_equal_tables_alike() -> None:
    digest = {short: rule_table_digest(get_config(short)) for short in ("d0", "d0-advprop", "d1", "d6", "d7")}
    assert digest["d0"] == digest["d0-advprop"] != digest["d1"]
    assert digest["d6"] == digest["d7"]


# --- what does not fit -------------------------------------------------------------------------------------------


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
    assert caught.value.gaps["missing from the file"] == sorted((n + EMA_SUFFIX for n in missing), reverse=True)
    assert sorted(caught.value.gaps["unknown to the model"]) == ["box_net/unheard_of/Momentum", "segmentation/kernel"]
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
        ("efficientdet-d1", "d0", "efficientdet-d1; use --model d1"),
        ("efficientdet-d0", "d1", "efficientdet-d0; use --model d0"),
        ("efficientdet-d7", "d7x", "efficientdet-d6 and efficientdet-d7; use --model d6 or --model d7"),
        ("efficientdet-lite3x", "lite3", "efficientdet-lite3x; use --model lite3x"),
    ],
)
def test_checkpoint_of_another_model_is_recognised(given: str, asked: str, advice: str) -> None:
    with pytest.raises(IncompleteConversion) as caught:
        plan(stub_checkpoint(given), get_config(asked))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[1] == f"Its variables are those of {advice}"


def test_the_right_model_with_something_extra_is_not_called_another() -> None:
    checkpoint = stub_checkpoint("efficientdet-d0")
    checkpoint.variables["extra"] = Variable("float32", (1,))
    with pytest.raises(IncompleteConversion) as caught:
        plan(checkpoint, get_config("d0-advprop"))
    assert str(caught.value).endswith("1 unknown to the model\nunknown to the model: extra")


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
        with pytest.raises(CheckpointError, match="it holds no moving averages; use --weights raw"):
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
    with pytest.raises(CheckpointError, match="2 weights are not finite; --allow-nonfinite") as caught:
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
    assert {label: len(names) for label, names in caught.value.gaps.items()} == {
        "missing from the file": 1,
        "unknown to the model": 1,
        "of another shape or type": 1,
    }


# --- nothing half-written ----------------------------------------------------------------------------------------


@pytest.fixture
def conversion() -> Conversion:
    folder = Path(__file__).parent / "golden" / "tiny-lite"
    return convert(open_checkpoint(folder), config_of(folder))


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_output_where_a_directory_or_file_stands_in_the_way(conversion: Conversion, tmp_path: Path) -> None:
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(OutputError, match=r"taken.safetensors: cannot be written"):
        write_weights(conversion, tmp_path / "taken.safetensors")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_weights(conversion, tmp_path / "file" / "x.safetensors")
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OutputError, match=r"x.json: cannot be written"):
        write_weights(conversion, tmp_path / "x.safetensors")
    assert sorted(listing(tmp_path)) == ["file"]


@pytest.mark.parametrize("moment", ["replace", "chmod"])
def test_failure_while_finishing_keeps_the_old_output(
    moment: str, conversion: Conversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"old")
    (tmp_path / "x.json").write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, moment, fail)
    with pytest.raises(OutputError, match="No space left"):
        write_weights(conversion, tmp_path / "x.safetensors")
    monkeypatch.undo()
    assert listing(tmp_path) == {"x.safetensors": b"old", "x.json": b"old"}


def test_failure_while_writing_a_checkpoint_keeps_the_old_one(
    conversion: Conversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.index").write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", lambda *a: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
    with pytest.raises(OutputError, match="No space left"):
        write_checkpoint(conversion.state, conversion.state, conversion.config, tmp_path / "model", "test")
    monkeypatch.undo()
    assert listing(tmp_path) == {"model.index": b"old"}


def test_other_endings_than_safetensors_are_refused(conversion: Conversion, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"converted weights are .safetensors"):
        write_weights(conversion, tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100, (10**9).to_bytes(8, "little") + b"{}"])
def test_damaged_weights_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x.safetensors: not a readable"):
        read_weights(path)
