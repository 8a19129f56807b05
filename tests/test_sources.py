"""Checkpoints in every container people have them in, and containers built to do harm."""

import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from effconv.convert import archive as archive_module
from effconv.convert import sources as sources_module
from effconv.convert.bundle import Bundle, shard_suffix, write_bundle
from effconv.convert.layout import Array
from effconv.convert.sources import Checkpoint, Container, open_checkpoint
from effconv.errors import CheckpointError

GOLDEN = Path(__file__).parent / "golden"
SWISH = GOLDEN / "tiny-swish"
DATA = shard_suffix(0, 1)
STATE = b'model_checkpoint_path: "%s"\nall_model_checkpoint_paths: "%s"\n'
EMA = "/ExponentialMovingAverage"


def small_tensors() -> dict[str, Array]:
    return {"a/w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(500, dtype=np.int32)}


def small_files(prefix: str = "model", tensors: dict[str, Array] | None = None) -> dict[str, bytes]:
    """{file name: content} of a checkpoint and its state file."""
    index, arrays = write_bundle(small_tensors() if tensors is None else tensors)
    data = b"".join(array.tobytes() for array in arrays)
    name = prefix.encode()
    return {"checkpoint": STATE % (name, name), f"{prefix}.index": index, f"{prefix}{DATA}": data}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(path: Path, members: dict[str, bytes], *more: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    """An archive of the members in order, then of the headers in `more`, which have no content."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return path


def header(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def same(checkpoint: Checkpoint, tensors: dict[str, Array]) -> None:
    checkpoint.verify()
    assert list(checkpoint.variables) == sorted(tensors)
    for name, array in tensors.items():
        assert np.array_equal(checkpoint.read(name), array), name


def refusal(path: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    return str(caught.value)


# The ways to name a checkpoint


@pytest.mark.parametrize(
    "part", ["", "model", "model.index", f"model{DATA}", "checkpoint", "tiny.tar.gz", "w.tgz", "w.tar"]
)
def test_every_way_to_name_a_checkpoint(part: str, tmp_path: Path) -> None:
    names = ("checkpoint", "model.index", f"model{DATA}")
    folder = put(tmp_path, {name: (SWISH / name).read_bytes() for name in names})
    if ".t" in part:
        members = {f"tiny-swish/{name}": (SWISH / name).read_bytes() for name in names}
        pack(folder / part, members, mode="w" if part.endswith(".tar") else "w:gz")
    expected = open_checkpoint(SWISH)
    for path in (folder / part, str(folder / part)):
        checkpoint = open_checkpoint(path)
        checkpoint.verify()
        assert checkpoint.container is Container.TF1
        assert checkpoint.has_checksums
        assert checkpoint.variables == expected.variables
        assert checkpoint.fingerprint() == expected.fingerprint()
        array = checkpoint.read("global_step")
        assert (array.dtype, array.shape) == (np.int64, ())


@pytest.mark.parametrize("part", ["keras", "keras/ckpt", "keras/ckpt.index"])
def test_object_checkpoints(part: str) -> None:
    checkpoint = open_checkpoint(SWISH / part)
    assert checkpoint.container is Container.KERAS_OBJECTS
    checkpoint.verify()


def test_prefix_with_dots_and_a_file_of_the_same_name(tmp_path: Path) -> None:
    put(tmp_path, small_files("model.ckpt-1200"))
    (tmp_path / "model.ckpt-1200").write_text("left by another program")
    same(open_checkpoint(tmp_path / "model.ckpt-1200"), small_tensors())
    same(open_checkpoint(tmp_path / "model.ckpt-1200.index"), small_tensors())
    same(open_checkpoint(tmp_path / f"model.ckpt-1200{DATA}"), small_tensors())


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, small_files())
    monkeypatch.chdir(tmp_path)
    for path in (".", "model", "./model.index", "checkpoint", ""):
        same(open_checkpoint(path), small_tensors())


@pytest.mark.parametrize("named", ["/old/machine/train/model-7", "/model-7", "model-7", "./model-7"])
def test_moved_training_directory(named: str, tmp_path: Path) -> None:
    """The state file says which of several checkpoints is meant, even where it names a place that is gone."""
    other = {"a/w": np.zeros(1, np.float32)}
    put(tmp_path, small_files("model-6", other) | small_files("model-7"))
    (tmp_path / "checkpoint").write_bytes(STATE % (named.encode(), b"model-6"))
    same(open_checkpoint(tmp_path), small_tensors())
    same(open_checkpoint(tmp_path / "checkpoint"), small_tensors())
    same(open_checkpoint(tmp_path / "model-6"), other)
    members = {f"run/{path.name}": path.read_bytes() for path in sorted(tmp_path.iterdir())}
    same(open_checkpoint(pack(tmp_path / "run.tar.gz", members)), small_tensors())


def test_state_file_that_names_a_missing_checkpoint(tmp_path: Path) -> None:
    put(tmp_path, small_files("model-7"))
    (tmp_path / "checkpoint").write_bytes(STATE % (b"model-8", b"model-8"))
    assert "model-8: no such checkpoint (model-8.index is missing)" in refusal(tmp_path)


@pytest.mark.parametrize(
    "state", [b"", b"\xff\xfe\0", b'model_checkpoint_path: "/"', b'model_checkpoint_path: "."', b"x" * 999]
)
def test_state_file_that_says_nothing(state: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, small_files() | {"checkpoint": state})
    monkeypatch.chdir(tmp_path)
    same(open_checkpoint(tmp_path), small_tensors())
    same(open_checkpoint("."), small_tensors())


def test_several_checkpoints_without_a_state_file(tmp_path: Path) -> None:
    put(tmp_path, small_files("first") | small_files("second"))
    (tmp_path / "checkpoint").unlink()
    message = refusal(tmp_path)
    assert (
        message
        == f"{tmp_path}: expected one checkpoint, found first.index, second.index; name its prefix or .index file"
    )


def test_one_checkpoint_without_a_state_file(tmp_path: Path) -> None:
    put(tmp_path, small_files("only"))
    (tmp_path / "checkpoint").unlink()
    same(open_checkpoint(tmp_path), small_tensors())


def test_saved_model(tmp_path: Path) -> None:
    files = small_files("variables/variables")
    del files["checkpoint"]
    put(tmp_path, files | {"saved_model.pb": b"a graph"})
    same(open_checkpoint(tmp_path), small_tensors())
    (tmp_path / "saved_model.pb").unlink()
    assert "expected one checkpoint, found none" in refusal(tmp_path)


# Nothing there, or something else


def test_nothing_there(tmp_path: Path) -> None:
    assert "model: no such checkpoint (model.index is missing)" in refusal(tmp_path / "model")
    assert "no such checkpoint" in refusal(tmp_path / "none" / "model")
    assert "expected one checkpoint, found none" in refusal(tmp_path)


def test_files_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a note")
    message = refusal(tmp_path / "notes.txt")
    assert message.startswith(f"{tmp_path / 'notes.txt'}: not a TensorFlow checkpoint; expected a directory")
    (tmp_path / "empty").touch()
    assert "not a TensorFlow checkpoint" in refusal(tmp_path / "empty")
    for name, expected in (
        ("notes.tar", "not a readable tar archive"),
        ("notes.tar.gz", "not a readable tar archive"),
        ("notes.tgz", "not a readable tar archive"),
        ("notes.h5", "not a readable HDF5 file"),
        ("notes.index", "footer: expected at least 48 bytes, found 6"),
        (f"alone{DATA}", "alone.index is missing"),
    ):
        (tmp_path / name).write_text("a note")
        message = refusal(tmp_path / name)
        assert expected in message, name
        assert str(tmp_path) in message, name


def test_directories_in_place_of_files(tmp_path: Path) -> None:
    put(tmp_path, small_files())
    (tmp_path / f"model{DATA}").unlink()
    (tmp_path / f"model{DATA}").mkdir()
    checkpoint = open_checkpoint(tmp_path)
    for use in (checkpoint.verify, lambda: checkpoint.read("b")):
        with pytest.raises(CheckpointError, match=f"model{DATA}: this part of the checkpoint cannot be read"):
            use()
    (tmp_path / "model.index").unlink()
    (tmp_path / "model.index").mkdir()
    assert "model.index is missing" in refusal(tmp_path)
    assert str(tmp_path) in refusal(tmp_path / "model.index")


def test_missing_shard_is_named_when_needed(tmp_path: Path) -> None:
    put(tmp_path, small_files())
    (tmp_path / f"model{DATA}").unlink()
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.fingerprint().startswith("sha256:")  # from the index alone
    with pytest.raises(CheckpointError, match=f"model{DATA}: this part .* put it beside the .index"):
        checkpoint.verify()


@pytest.mark.parametrize("name", ["", "checkpoint", "model.index", "model"])
def test_permission_errors(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, small_files())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal(tmp_path / name) == f"{tmp_path / name}: cannot be read (Permission denied)"


def test_index_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = small_files()
    put(tmp_path, files)
    for module in (archive_module, sources_module):
        monkeypatch.setattr(module, "MAX_INDEX", 100)
    size = len(files["model.index"])
    assert f"model.index: {size} bytes, expected at most 100 for an index" in refusal(tmp_path)
    message = refusal(pack(tmp_path / "model.tar.gz", {"model.index": files["model.index"]}))
    assert f"'model.index' has {size} bytes, expected at most 100" in message


def test_verify_false_reads_what_is_damaged(tmp_path: Path) -> None:
    files = small_files()
    index = bytearray(files["model.index"])
    index[files["model.index"].index(b"a/w")] = ord("z")
    put(tmp_path, files | {"model.index": bytes(index)})
    assert "data block 0: checksum" in refusal(tmp_path)
    with pytest.raises(CheckpointError, match="out of order"):
        open_checkpoint(tmp_path, verify=False)
    index[files["model.index"].index(b"a/w")] = ord("A")
    (tmp_path / "model.index").write_bytes(index)
    assert list(open_checkpoint(tmp_path, verify=False).variables) == ["A/w", "b"]


# Archives


def test_archive_with_several_checkpoints(tmp_path: Path) -> None:
    other = {"other": np.zeros(3, np.float32)}
    beside = small_files("saved/variables/variables", other)
    del beside["checkpoint"]
    members = {f"run/{name}": content for name, content in small_files().items()}
    same(open_checkpoint(pack(tmp_path / "both.tar.gz", beside | members)), small_tensors())
    del members["run/checkpoint"]
    message = refusal(pack(tmp_path / "unnamed.tar.gz", beside | members))
    assert "expected one checkpoint in the archive, found saved/variables/variables.index, run/model.index" in message
    assert "found none" in refusal(pack(tmp_path / "none.tar.gz", {"readme": b"hello"}))


def test_archive_that_lacks_its_data(tmp_path: Path) -> None:
    files = small_files()
    checkpoint = open_checkpoint(pack(tmp_path / "half.tar.gz", {"./run/model.index": files["model.index"]}))
    with pytest.raises(CheckpointError, match=f"half.tar.gz: the archive lacks run/model{DATA}; get it again"):
        checkpoint.verify()


@pytest.mark.parametrize("in_memory", [0, 1000, 1 << 20])
def test_nothing_is_extracted(in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether members stay in memory or go to temporary files, no name appears anywhere."""
    path = pack(tmp_path / "model.tar.gz", small_files() | {f"empty{DATA}": b""})
    watched, current = tmp_path / "temporary", tmp_path / "current"
    watched.mkdir()
    current.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(watched))
    monkeypatch.setattr(archive_module, "IN_MEMORY", in_memory)
    monkeypatch.setattr(archive_module, "CHUNK", 700)
    monkeypatch.chdir(current)
    seen: list[list[str]] = []
    real = tempfile.TemporaryFile

    def temporary_file(*arguments: object, **options: object) -> object:
        file = real(*arguments, **options)  # type: ignore[call-overload]
        seen.append(os.listdir(watched))
        return file

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    checkpoint = open_checkpoint(path)
    same(checkpoint, small_tensors())
    assert len(seen) == {0: 3, 1000: 1, 1 << 20: 0}[in_memory]
    assert all(names == [] for names in seen)
    assert os.listdir(watched) == os.listdir(current) == []
    assert sorted(os.listdir(tmp_path)) == ["current", "model.tar.gz", "temporary"]


def test_sum_of_small_members_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "model.tar.gz", {f"part{number}{DATA}": b"x" * 100 for number in range(9)})
    monkeypatch.setattr(archive_module, "IN_MEMORY", 450)
    members = archive_module.Archive(path).members
    assert sum(len(content) for content in members.values() if isinstance(content, bytes)) <= 450
    assert all(content[:] == b"x" * 100 for content in members.values())


HOSTILE = {
    "absolute": (header("/etc/model.index"), "member '/etc/model.index' points outside the archive"),
    "climbing": (header("run/../../model.index"), "member 'run/../../model.index' points outside the archive"),
    "climbing folder": (header("..", tarfile.DIRTYPE), "member '..' points outside the archive"),
    "symbolic link": (header("model.index", tarfile.SYMTYPE, "/etc/passwd"), "'model.index' is a link or a device"),
    "hard link": (header("other.index", tarfile.LNKTYPE, "model.index"), "'other.index' is a link or a device"),
    "link that is not read": (header("readme", tarfile.SYMTYPE, "model.index"), "'readme' is a link or a device"),
    "pipe": (header("pipe", tarfile.FIFOTYPE), "'pipe' is a link or a device"),
    "character device": (header("zero", tarfile.CHRTYPE), "'zero' is a link or a device"),
    "block device": (header("disk", tarfile.BLKTYPE), "'disk' is a link or a device"),
    "duplicate": (header("model.index"), "member 'model.index' appears twice"),
    "duplicate in disguise": (header("./model.index"), "member './model.index' appears twice"),
}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members_are_refused(name: str, mode: str, tmp_path: Path) -> None:
    info, expected = HOSTILE[name]
    path = pack(tmp_path / "hostile.tar.gz", small_files(), info, mode=mode)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "refused" in message


def test_claims_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.tar"
    path.write_bytes(header(f"model{DATA}", size=1 << 40).tobuf() + b"\0" * 10240)
    assert "unpacks to more than 16 GiB; refused" in refusal(path)
    path.write_bytes(header("readme", size=1 << 40).tobuf() + b"\0" * 10240)
    assert "unpacks to more than 16 GiB; refused" in refusal(path)
    monkeypatch.setattr(archive_module, "MAX_UNPACKED", 6000)
    members = {f"part{number}": b"\0" * 1500 for number in range(5)}
    assert "refused" in refusal(pack(tmp_path / "sum.tar.gz", members))
    (tmp_path / "tail.tar.gz").write_bytes(gzip.compress(b"\0" * 100_000))
    assert "refused" in refusal(tmp_path / "tail.tar.gz")


@pytest.mark.parametrize("size", [-1, -512, -(1 << 60), 1 << 62, 1 << 80])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE])
def test_absurd_sizes_in_headers(size: int, kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "absurd.tar"
    path.write_bytes(header("model.index", kind, size=size).tobuf(tarfile.GNU_FORMAT) + b"\0" * 10240)
    assert refusal(path).startswith(f"{path}: ")


@pytest.mark.parametrize("size", [-512, -1024])
def test_negative_sizes_do_not_lead_back(size: int, tmp_path: Path) -> None:
    """After a member of -512 bytes its own header comes next, again and again."""
    path = tmp_path / "endless.tar"
    headers = (header(name, size=claimed).tobuf(tarfile.GNU_FORMAT) for name, claimed in (("first", 0), ("next", size)))
    path.write_bytes(b"".join(headers) + b"\0" * 10240)
    assert refusal(path).startswith(f"{path}: ")  # newer Pythons refuse the header, others leave it to the archive


def test_endless_long_names(tmp_path: Path) -> None:
    """Each long-name header makes tarfile recurse."""
    one = header("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=5).tobuf() + b"name\0".ljust(512, b"\0")
    path = tmp_path / "deep.tar"
    path.write_bytes(one * 3000 + b"\0" * 10240)
    assert f"{path}: not a readable tar archive, or cut off (" in refusal(path)


@pytest.mark.parametrize("suffix", ["gz", "xz", "bz2", ""])
def test_cut_archives(suffix: str, tmp_path: Path) -> None:
    whole = pack(tmp_path / f"model.tar.{suffix}", small_files(), mode=f"w:{suffix}").read_bytes()
    survivors = []
    lengths = [*(len(whole) * step // 20 for step in range(20)), len(whole) - 1]
    if not suffix:
        lengths = [length for length in lengths if length < whole.rindex(b"\x01\x00\x00\x00")]  # all before the padding
    for length in lengths:
        path = tmp_path / f"cut{length}.tar"
        path.write_bytes(whole[:length])
        try:
            open_checkpoint(path).verify()
            survivors.append(length)
        except CheckpointError as error:
            if str(path) not in str(error):
                survivors.append(length)
    assert survivors == []


@pytest.mark.parametrize("suffix", ["gz", "xz", "bz2"])
def test_flipped_bytes_in_archives(suffix: str, tmp_path: Path) -> None:
    whole = pack(tmp_path / f"model.tar.{suffix}", small_files(), mode=f"w:{suffix}").read_bytes()
    draw = random.Random(1)
    survivors = []
    for number in range(150):
        # Behind gzip's ten bytes and file name, which hold a date and a name that mean nothing here.
        position, change = draw.randrange(40 if suffix == "gz" else 0, len(whole)), draw.randrange(1, 256)
        path = tmp_path / f"flip{number}.tar"
        path.write_bytes(whole[:position] + bytes([whole[position] ^ change]) + whole[position + 1 :])
        try:
            open_checkpoint(path).verify()
            survivors.append((position, change))
        except CheckpointError as error:
            if str(path) not in str(error):
                survivors.append((position, change))
    assert survivors == []


def test_flipped_bytes_in_plain_archives(tmp_path: Path) -> None:
    """A plain tar has no checksum of its own: what opens all the same has the right tensors."""
    whole = pack(tmp_path / "model.tar", small_files(), mode="w").read_bytes()
    expected = open_checkpoint(tmp_path / "model.tar").fingerprint()
    draw = random.Random(2)
    refused = 0
    for number in range(300):
        position = draw.randrange(len(whole))
        path = tmp_path / f"flip{number}.tar"
        path.write_bytes(whole[:position] + bytes([whole[position] ^ draw.randrange(1, 256)]) + whole[position + 1 :])
        try:
            checkpoint = open_checkpoint(path)
            checkpoint.verify()
        except CheckpointError:
            refused += 1
            continue
        assert checkpoint.fingerprint() == expected
    assert refused > 50


# Keras .h5


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
    from effconv.convert import hdf5

    path = write_h5(tmp_path / "weights.h5")
    monkeypatch.setattr(hdf5, "MAX_OBJECTS", 7)
    assert "groups nest or repeat without end" in refusal(path)
    monkeypatch.setattr(hdf5, "MAX_OBJECTS", 8)
    assert list(open_checkpoint(path).variables) == WEIGHTS


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


# Digests, and memory handed back


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    files = small_files()
    put(tmp_path / "folder", files)
    prints = {
        "folder": open_checkpoint(tmp_path / "folder").fingerprint(),
        "archive": open_checkpoint(pack(tmp_path / "a.tar.gz", {f"x/{k}": v for k, v in files.items()})).fingerprint(),
        "renamed": open_checkpoint(put(tmp_path / "other", small_files("ckpt-9"))).fingerprint(),
    }
    assert len(set(prints.values())) == 1
    assert prints["folder"].startswith("sha256:")
    changes: list[dict[str, Array]] = []
    for name, array in small_tensors().items():
        changed = array.copy()
        changed.reshape(-1)[-1] += 1
        changes.append(small_tensors() | {name: changed})
    changes.append(small_tensors() | {"a/w": small_tensors()["a/w"].reshape(3, 2)})
    changes.append(small_tensors() | {"b": small_tensors()["b"].view(np.float32)})
    changes.append(small_tensors() | {"c": np.zeros(0, np.float32)})
    changes.append({"a/v": small_tensors()["a/w"], "b": small_tensors()["b"]})
    others = [
        open_checkpoint(put(tmp_path / str(number), small_files(tensors=tensors))).fingerprint()
        for number, tensors in enumerate(changes)
    ]
    assert len({prints["folder"], *others}) == 1 + len(changes)


def test_one_changed_weight_in_h5_changes_the_fingerprint(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["two/two/bias:0"][3] = 2

    first, second = write_h5(tmp_path / "first.h5"), write_h5(tmp_path / "second.h5", change)
    copied = shutil.copy(first, tmp_path / "copy.h5")
    assert open_checkpoint(first).fingerprint() == open_checkpoint(copied).fingerprint()
    assert open_checkpoint(first).fingerprint() != open_checkpoint(second).fingerprint()


@pytest.mark.parametrize("kind", ["folder", "archive in memory", "archive on disk", "h5"])
def test_release_leaves_arrays_and_reading_as_they_were(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "archive on disk":
        monkeypatch.setattr(archive_module, "IN_MEMORY", 0)
    names = ("checkpoint", "model.index", f"model{DATA}")
    path = {"folder": SWISH, "h5": SWISH / "tiny-swish.h5"}.get(kind) or pack(
        tmp_path / "a.tar.gz", {name: (SWISH / name).read_bytes() for name in names}
    )
    checkpoint = open_checkpoint(path)
    name = max(checkpoint.variables, key=lambda name: np.prod(checkpoint.variables[name].shape))
    before = checkpoint.read(name)
    content = before.tobytes()
    checkpoint.release()
    assert before.tobytes() == content
    assert checkpoint.read(name).tobytes() == content
    checkpoint.verify()
    checkpoint.release()
    assert checkpoint.read(name).tobytes() == content


def test_check_releases_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory stays flat however large the checkpoint is."""
    from effconv.convert import bundle

    released = []
    monkeypatch.setattr(bundle, "RELEASE_BYTES", 100_000)
    monkeypatch.setattr(Bundle, "release", lambda self: released.append(self))
    open_checkpoint(SWISH).verify()
    assert 5 <= len(released) <= 8  # every 100 kB of 654 kB, and at the end
