"""Keras `.h5` files: whole, split, damaged, and reaching outside themselves."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from effconv.convert.sources import Container, open_checkpoint
from small_checkpoints import EMA, GOLDEN, refusal


def component_path(name: str) -> str:
    return f"/{name.split('/')[0]}/{name}:0"


@pytest.mark.parametrize("name", ["tiny-swish", "tiny-sum8", "tiny-lite"])
def test_h5_holds_the_moving_averages(name: str) -> None:
    folder = GOLDEN / name
    h5, checkpoint = open_checkpoint(folder / f"{name}.h5"), open_checkpoint(folder)
    averages = [key.removesuffix(EMA) for key in checkpoint.variables if key.endswith(EMA)]
    assert h5.container is Container.H5
    assert not h5.has_checksums
    assert set(h5.variables) == {component_path(key) for key in averages}
    h5.verify()
    stored, computed = checkpoint.checksums(), h5.checksums()
    for key in averages:
        ours, theirs = h5.read(component_path(key)), checkpoint.read(key + EMA)
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes()), key
        assert h5.variables[component_path(key)] == checkpoint.variables[key + EMA], key
        assert computed[component_path(key)] == stored[key + EMA], key


KERNEL, BIAS = np.arange(12, dtype=np.float32).reshape(3, 4), np.ones(4, np.float32)


def write_h5(path: Path, change: Callable[[h5py.File], None] | None = None, root: str = "/") -> Path:
    """Two layers of two weights under `root`, as Keras writes them; `change` may then do harm."""
    with h5py.File(path, "w") as file:
        top = file.require_group(root)
        top.attrs["layer_names"] = [b"one", b"two"]
        for layer in ("one", "two"):
            group = top.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/kernel:0".encode(), f"{layer}/bias:0".encode()]
            group[f"{layer}/kernel:0"] = KERNEL
            group[f"{layer}/bias:0"] = BIAS
        if change:
            change(file)
    return path


WEIGHTS = [f"/{layer}/{layer}/{kind}:0" for layer in ("one", "two") for kind in ("bias", "kernel")]


def test_split_attributes(tmp_path: Path) -> None:
    """Keras splits a list of names that one attribute cannot hold; every part counts."""

    def split(file: h5py.File) -> None:
        for group, name in ((file, "layer_names"), (file["two"], "weight_names")):
            first, second = group.attrs[name]
            del group.attrs[name]
            group.attrs[f"{name}0"], group.attrs[f"{name}1"] = [first], [second]

    checkpoint = open_checkpoint(write_h5(tmp_path / "split.h5", split))
    assert list(checkpoint.variables) == WEIGHTS
    assert np.array_equal(checkpoint.read("/two/two/kernel:0"), KERNEL)

    def split_and_cut(file: h5py.File) -> None:
        split(file)
        del file["two/two/bias:0"]

    assert "lists weights it does not hold: /two/two/bias:0; get it again" in refusal(
        write_h5(tmp_path / "cut.h5", split_and_cut)
    )


def test_whole_model_file(tmp_path: Path) -> None:
    def optimizer(file: h5py.File) -> None:
        file["optimizer_weights/momentum/kernel:0"] = KERNEL

    checkpoint = open_checkpoint(write_h5(tmp_path / "model.h5", optimizer, root="/model_weights"))
    assert sorted(checkpoint.variables) == sorted([*WEIGHTS, "/optimizer_weights/momentum/kernel:0"])
    assert np.array_equal(checkpoint.read("/one/one/bias:0"), BIAS)


def test_h5_is_known_by_its_content(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "weights.h5").rename(tmp_path / "weights.data")
    assert open_checkpoint(path).container is Container.H5


def test_big_endian_weights_are_the_same_numbers(tmp_path: Path) -> None:
    def swap(file: h5py.File) -> None:
        del file["one/one/kernel:0"]
        file["one/one/kernel:0"] = KERNEL.astype(">f4")

    swapped, plain = open_checkpoint(write_h5(tmp_path / "s.h5", swap)), open_checkpoint(write_h5(tmp_path / "p.h5"))
    assert swapped.read("/one/one/kernel:0").tobytes() == KERNEL.tobytes()
    assert swapped.fingerprint() == plain.fingerprint()


def remove(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def listed_but_missing(file: h5py.File) -> None:
    del file["one/one/kernel:0"], file["two/two/bias:0"]


def no_lists(file: h5py.File) -> None:
    del file.attrs["layer_names"]


def layer_missing(file: h5py.File) -> None:
    del file["two"]


def names_are_numbers(file: h5py.File) -> None:
    file.attrs["layer_names"] = 7


def soft_link(file: h5py.File) -> None:
    file["one/linked"] = h5py.SoftLink("/two/two/bias:0")


def external_link(file: h5py.File) -> None:
    file["one/linked"] = h5py.ExternalLink("elsewhere.h5", "/two/two/bias:0")


def external_storage(file: h5py.File) -> None:
    file["one"].create_dataset("stored", (4,), "f4", external=[("elsewhere.bin", 0, 16)])


def virtual_dataset(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "data", (4,))
    file["one"].create_virtual_dataset("stored", layout)


def group_cycle(file: h5py.File) -> None:
    file["one/again"] = file["/"]


def branching_cycle(file: h5py.File) -> None:
    for number in range(5):
        file[f"one/again{number}"] = file["/"]


def deep_groups(file: h5py.File) -> None:
    file.create_group("/".join("g" * 100))


def text_weight(file: h5py.File) -> None:
    file["one/text"] = ["a", "b"]


def null_weight(file: h5py.File) -> None:
    file["one/nothing"] = h5py.Empty("S4")


def huge_claim(file: h5py.File) -> None:
    file.create_dataset("one/huge", (1 << 45,), "f4", chunks=(1 << 10,))


def huge_contiguous(file: h5py.File) -> None:
    file.create_dataset("one/huge", (1 << 45,), "f4")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (listed_but_missing, "lists weights it does not hold: /one/one/kernel:0, /two/two/bias:0; get it again"),
        (no_lists, "an HDF5 file without Keras weights (no layer_names and weight_names)"),
        (layer_missing, "not a readable HDF5 file, or damaged"),
        (names_are_numbers, "not a readable HDF5 file, or damaged"),
        (soft_link, "/one/linked is a link to somewhere else; refused"),
        (external_link, "/one/linked is a link to somewhere else; refused"),
        (external_storage, "/one/stored keeps its data in another file; refused"),
        (virtual_dataset, "/one/stored keeps its data in another file; refused"),
        (group_cycle, "groups nest or repeat without end at /one/again/one/again"),
        (branching_cycle, "groups nest or repeat without end at /one/again"),
        (deep_groups, "groups nest or repeat without end at /g/g/g"),
        (text_weight, "/one/text is object, expected numbers; refused"),
        (null_weight, "/one/nothing is |S4, expected numbers; refused"),
        (huge_claim, f"/one/huge claims {1 << 47} bytes in a file of"),
        (huge_contiguous, f"/one/huge claims {1 << 47} bytes in a file of"),
    ],
)
def test_h5_that_is_incomplete_or_hostile(change: Callable[[h5py.File], None], expected: str, tmp_path: Path) -> None:
    # What the links point at is really there, so that only the refusal can explain the error.
    write_h5(tmp_path / "elsewhere.h5")
    (tmp_path / "elsewhere.bin").write_bytes(b"\0" * 16)
    path = write_h5(tmp_path / "weights.h5", change)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert expected in message


def test_many_objects_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from effconv.convert.formats import hdf5

    path = write_h5(tmp_path / "weights.h5")
    monkeypatch.setattr(hdf5, "MAX_OBJECTS", 7)
    assert "groups nest or repeat without end" in refusal(path)
    monkeypatch.setattr(hdf5, "MAX_OBJECTS", 8)
    assert list(open_checkpoint(path).variables) == WEIGHTS


def test_groups_may_nest_to_the_limit_and_no_deeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from effconv.convert.formats import hdf5

    path = write_h5(tmp_path / "weights.h5")  # /one/one/kernel:0 and others are two groups deep
    monkeypatch.setattr(hdf5, "MAX_DEPTH", 2)
    assert list(open_checkpoint(path).variables) == WEIGHTS
    monkeypatch.setattr(hdf5, "MAX_DEPTH", 1)
    assert "groups nest or repeat without end at /one/one/" in refusal(path)


READ_EACH = """
import json, sys
from effconv.convert.sources import open_checkpoint
from effconv.errors import CheckpointError
outcomes = {}
for path in sys.argv[1:]:
    try:
        checkpoint = open_checkpoint(path)
        outcomes[path] = f"read {len(checkpoint.checksums())}"
    except CheckpointError as error:
        outcomes[path] = "refused" if path in str(error) else f"names nothing: {error}"
    except Exception as error:
        outcomes[path] = repr(error)
print(json.dumps(outcomes))
"""


def read_each(paths: list[Path]) -> dict[str, str]:
    """What becomes of each file, in a process of its own: HDF5 is C, and may take Python down with it."""
    ours = [sys.executable, "-c", READ_EACH, *map(str, paths)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(ours, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, str] = json.loads(done.stdout)
    assert list(outcomes) == [str(path) for path in paths]
    return outcomes


def test_cut_h5(tmp_path: Path) -> None:
    whole = (GOLDEN / "tiny-lite" / "tiny-lite.h5").read_bytes()
    paths = []
    for step in range(20):
        paths.append(tmp_path / f"cut{step}.h5")
        paths[-1].write_bytes(whole[: len(whole) * step // 20])
    assert set(read_each(paths).values()) == {"refused"}


def test_flipped_metadata_in_h5(tmp_path: Path) -> None:
    """An .h5 has no checksums; what is asked is that damage never raises anything but CheckpointError."""
    source = GOLDEN / "tiny-lite" / "tiny-lite.h5"
    whole = source.read_bytes()
    metadata = bytearray(b"\1" * len(whole))

    def spare(_: str, value: object) -> None:
        if isinstance(value, h5py.Dataset):
            start = value.id.get_offset()
            metadata[start : start + value.nbytes] = bytes(value.nbytes)

    with h5py.File(source) as file:
        file.visititems(spare)
    # HDF5 leaves much room empty, where nothing can be damaged.
    used = [position for position, byte in enumerate(whole) if metadata[position] and byte]
    draw = random.Random(4)
    paths = []
    for number in range(90):
        position = draw.choice(used) if number > 29 else number
        paths.append(tmp_path / f"flip{number}.h5")
        damaged = bytes([whole[position] ^ draw.randrange(1, 256)])
        paths[-1].write_bytes(whole[:position] + damaged + whole[position + 1 :])
    outcomes = list(read_each(paths).values())
    assert [outcome for outcome in outcomes if outcome != "refused" and not outcome.startswith("read ")] == []
    assert outcomes.count("refused") > 40


def test_one_changed_weight_in_h5_changes_the_fingerprint(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["two/two/bias:0"][3] = 2

    first, second = write_h5(tmp_path / "first.h5"), write_h5(tmp_path / "second.h5", change)
    copied = shutil.copy(first, tmp_path / "copy.h5")
    assert open_checkpoint(first).fingerprint() == open_checkpoint(copied).fingerprint()
    assert open_checkpoint(first).fingerprint() != open_checkpoint(second).fingerprint()
