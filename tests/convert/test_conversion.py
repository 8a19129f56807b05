"""Checkpoint to weights and back: every bit kept, nothing half-written."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from effconv.convert.apply import EMA_SUFFIX
from effconv.convert.conversion import (
    Conversion,
    checkpoint_prefix,
    convert,
    rule_table_digest,
    write_checkpoint,
    write_weights,
)
from effconv.convert.output import OutputError
from effconv.convert.rules import rules
from effconv.convert.sources import open_checkpoint
from effconv.convert.weights_file import read_weights
from effconv.effdet_torch.config import get_config
from effconv.errors import CheckpointError
from tensors import config_of, read_all, same_bits


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
        for name in ("model.index", "model.data-00000-of-00001"):
            assert (tmp_path / name).read_bytes() == (tiny / name).read_bytes()
        comment, rest = (tmp_path / "checkpoint").read_bytes().split(b"\n", 1)
        assert (comment, rest) == (b"# written by effconv", (tiny / "checkpoint").read_bytes())


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
    state, stored, _, weights = read_weights(tmp_path / "a.safetensors")
    assert weights == "ema"
    same_bits(dict(sorted(state.items())), dict(sorted(conversion.state.items())))
    assert stored == config
    manifest = json.loads((tmp_path / "a.manifest.json").read_text())
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


# --- nothing half-written ----------------------------------------------------------------------------------------


@pytest.fixture
def conversion() -> Conversion:
    folder = Path(__file__).parent.parent / "golden" / "tiny-lite"
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
    (tmp_path / "x.manifest.json").mkdir()
    with pytest.raises(OutputError, match=r"x.manifest.json: cannot be written"):
        write_weights(conversion, tmp_path / "x.safetensors")
    assert sorted(listing(tmp_path)) == ["file"]


@pytest.mark.parametrize("moment", ["replace", "chmod"])
def test_failure_while_finishing_keeps_the_old_output(
    moment: str, conversion: Conversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"old")
    (tmp_path / "x.manifest.json").write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, moment, fail)
    with pytest.raises(OutputError, match="No space left"):
        write_weights(conversion, tmp_path / "x.safetensors")
    monkeypatch.undo()
    assert listing(tmp_path) == {"x.safetensors": b"old", "x.manifest.json": b"old"}


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


def test_a_folder_stands_for_the_prefix_model_in_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert checkpoint_prefix(str(tmp_path / "there")) == tmp_path / "there" / "model"
    assert checkpoint_prefix(f"{tmp_path / 'new'}{os.sep}") == tmp_path / "new" / "model"
    assert checkpoint_prefix(str(tmp_path / "new")) == tmp_path / "new"
