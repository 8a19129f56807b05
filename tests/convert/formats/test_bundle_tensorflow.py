"""TensorBundles beside TensorFlow itself: each reads what the other writes, and both write the same bytes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from bundle_bytes import (
    ONE_SHARD,
    TINY,
    load,
    open_bundle,
    write,
)
from effconv.convert.formats.bundle import DTYPES, shard_suffix
from effconv.convert.formats.table import read_table
from effconv.convert.layout import Array
from effconv.errors import CheckpointError


def save(prefix: Path, tensors: Mapping[str, Array], slices: list[str] | None = None) -> None:
    import tensorflow as tf

    names = list(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=slices or [""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )


def mixed_tensors() -> dict[str, Array]:
    draw = np.random.default_rng(11)
    tensors: dict[str, Array] = {
        f"scope/{label}": draw.integers(0, 2, (3, 5)).astype(label)
        for label, _ in DTYPES.values()
        if label not in ("string", "bfloat16")
    }
    tensors |= {f"empty/{axes}": np.zeros((0, axes), np.float32) for axes in range(3)}
    tensors |= {f"scope_{i}/w": draw.standard_normal((i, 2)).astype(np.float32) for i in range(40)}
    bits = np.array([0x7FC00001, 0xFF800000, 0x80000000, 1], np.uint32)  # NaN payload, -inf, -0, a denormal
    return tensors | {"scalar": np.array(3, np.int64), "special": bits.view(np.float32), "é/\U0001f600": bits}


@pytest.mark.tf
def test_tensorflow_reads_what_is_written_and_writes_the_same_bytes(tmp_path: Path) -> None:
    import tensorflow as tf

    tensors = mixed_tensors()
    index, data = write(tensors)
    (tmp_path / "ours.index").write_bytes(index)
    (tmp_path / f"ours{ONE_SHARD}").write_bytes(data)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert set(reader.get_variable_to_shape_map()) == set(tensors)
    for name, array in tensors.items():
        theirs = np.asarray(reader.get_tensor(name))
        assert (theirs.dtype, theirs.shape, theirs.tobytes()) == (array.dtype, array.shape, array.tobytes()), name
    # SaveV2 keeps the order it is given; TensorFlow's savers give it sorted names.
    save(tmp_path / "theirs", {name: tensors[name] for name in sorted(tensors)})
    assert (tmp_path / "theirs.index").read_bytes() == index
    assert (tmp_path / f"theirs{ONE_SHARD}").read_bytes() == data


@pytest.mark.tf
@pytest.mark.parametrize("name", TINY)
def test_tensorflow_writes_the_golden_bytes_again(name: str, tmp_path: Path) -> None:
    index, data = load(f"{name}/model")
    bundle = open_bundle(index, data)
    save(tmp_path / "theirs", {key: bundle.read(key) for key in bundle.entries})
    assert (tmp_path / "theirs.index").read_bytes() == index
    assert (tmp_path / f"theirs{ONE_SHARD}").read_bytes() == data


@pytest.mark.tf
def test_shards_merged_by_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    tensors = mixed_tensors()
    names = sorted(tensors)
    prefixes = []
    for shard in range(3):
        prefix = tmp_path / f"part{shard}"
        save(prefix, {name: tensors[name] for name in names[shard::3]})
        prefixes.append(str(prefix))
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / "merged"))
    contents = [(tmp_path / f"merged{shard_suffix(shard, 3)}").read_bytes() for shard in range(3)]
    bundle = open_bundle((tmp_path / "merged.index").read_bytes(), *contents)
    bundle.check()
    assert bundle.shard_count == 3
    assert list(bundle.entries) == sorted(names, key=str.encode)
    for name, array in tensors.items():
        assert bundle.read(name).tobytes() == array.tobytes(), name


@pytest.mark.tf
def test_slices_written_by_tensorflow_are_refused_by_name(tmp_path: Path) -> None:
    half = np.arange(6, dtype=np.float32).reshape(2, 3)
    save(tmp_path / "model", {"partitioned/w": half}, ["4 3 0,2:-"])
    index = (tmp_path / "model.index").read_bytes()
    # Two entries: the variable's, and under a key that is no name, the slice's.
    assert sum(b"partitioned/w" in key for key in read_table(index, "model.index")) == 2
    with pytest.raises(CheckpointError, match="variable partitioned/w is stored in slices"):
        open_bundle(index, half.tobytes())


@pytest.mark.tf
def test_bfloat16_written_by_tensorflow_is_checked_and_refused_by_name(tmp_path: Path) -> None:
    import tensorflow as tf

    value = tf.cast(tf.constant([1.5, -2.0]), tf.bfloat16).numpy()
    save(tmp_path / "model", {"half/w": value})
    bundle = open_bundle((tmp_path / "model.index").read_bytes(), (tmp_path / f"model{ONE_SHARD}").read_bytes())
    bundle.check()
    assert bundle.entries["half/w"].dtype == "bfloat16"
    with pytest.raises(CheckpointError, match="variable half/w is bfloat16"):
        bundle.read("half/w")
