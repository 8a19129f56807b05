"""Checkpoints inside archives, and archives built to do harm."""

import gzip
import mmap
import os
import random
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest

from effconv.convert.formats import archive as archive_module
from effconv.convert.sources import open_checkpoint
from effconv.errors import CheckpointError
from small_checkpoints import DATA, pack, refusal, same, small_files, small_tensors


def header(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


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


def test_only_the_files_of_checkpoints_are_kept(tmp_path: Path) -> None:
    path = pack(tmp_path / "model.tar.gz", small_files() | {"readme": b"hello", "model.meta": b"a graph"})
    assert sorted(archive_module.Archive(path).members) == sorted(small_files())
    with tarfile.open(tmp_path / "folder.tar", "w") as tar:
        tar.addfile(header(f"model{DATA}", tarfile.DIRTYPE))
    assert archive_module.Archive(tmp_path / "folder.tar").members == {}


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


@pytest.mark.parametrize(("name", "limit"), [("MAX_INDEX", 700), ("IN_MEMORY", 1500), ("MAX_UNPACKED", 1500)])
def test_limits_are_the_largest_sizes_that_pass(
    name: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / "model.tar", {"model.index": b"x" * 700, f"model{DATA}": b"y" * 800}, mode="w")
    path.write_bytes(path.read_bytes()[: 2 * (512 + 1024) + 512])  # nothing after the end mark that would count too
    monkeypatch.setattr(archive_module, name, limit)
    assert {type(content) for content in archive_module.Archive(path).members.values()} == {bytes}
    monkeypatch.setattr(archive_module, name, limit - 1)
    if name == "IN_MEMORY":
        assert [type(content) for content in archive_module.Archive(path).members.values()] == [bytes, mmap.mmap]
    else:
        with pytest.raises(CheckpointError, match="refused" if name == "MAX_UNPACKED" else "expected at most 699"):
            archive_module.Archive(path)


def test_the_largest_official_checkpoint_is_far_below_the_limits() -> None:
    assert archive_module.MAX_UNPACKED == 16 * 2**30
    assert archive_module.IN_MEMORY == 64 * 2**20
    assert archive_module.MAX_INDEX == 256 * 2**20


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
