"""Every way to name a checkpoint, and digests of what is in it."""

from pathlib import Path

import numpy as np
import pytest

from effconv.convert import sources as sources_module
from effconv.convert.formats import archive as archive_module
from effconv.convert.formats.bundle import Bundle
from effconv.convert.layout import Array
from effconv.convert.sources import Container, open_checkpoint
from effconv.errors import CheckpointError
from small_checkpoints import DATA, STATE, SWISH, pack, put, refusal, same, small_files, small_tensors


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
    for module in (archive_module, sources_module):
        monkeypatch.setattr(module, "MAX_INDEX", size)
    same(open_checkpoint(tmp_path / "model.index"), small_tensors())
    same(open_checkpoint(pack(tmp_path / "model.tar.gz", files)), small_tensors())


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
    from effconv.convert.formats import bundle

    released = []
    monkeypatch.setattr(bundle, "RELEASE_BYTES", 100_000)
    monkeypatch.setattr(Bundle, "release", lambda self: released.append(self))
    open_checkpoint(SWISH).verify()
    assert 5 <= len(released) <= 8  # every 100 kB of 654 kB, and at the end
