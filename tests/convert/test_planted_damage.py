"""Checkpoints whose index and data do not belong together, as the commands meet them: none is taken for intact."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundle_bytes import index_of
from effconv.cli import main
from effconv.convert import fingerprints
from effconv.convert.apply import EMA_SUFFIX
from effconv.convert.fingerprints import Released
from effconv.convert.formats.bundle import Entry, shard_suffix
from effconv.convert.formats.table import NO_COMPRESSION, SNAPPY
from effconv.convert.sources import checksum, open_checkpoint
from effconv.errors import CheckpointError
from effconv.parity.evaluation.evaluate import fingerprint_of
from small_checkpoints import DATA, SWISH
from tensors import read_all

SHARDS = 3
CONFIG = str(SWISH / "config.json")
NAMES = [shard_suffix(number, SHARDS) for number in range(SHARDS)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def sharded(folder: Path, factor: float = 1.0) -> Path:
    """The golden checkpoint, every float times `factor`, in three shards: the layout is always the same."""
    folder.mkdir()
    entries, contents = {}, [b""] * SHARDS
    for number, (name, array) in enumerate(read_all(SWISH).items()):
        changed = (array * factor).astype(array.dtype)
        raw, shard = changed.tobytes(), number % SHARDS
        entries[name] = Entry(array.dtype.name, array.shape, shard, len(contents[shard]), len(raw), checksum(changed))
        contents[shard] += raw
    (folder / "model.index").write_bytes(index_of(entries, SHARDS))
    for name, content in zip(NAMES, contents, strict=True):
        (folder / f"model{name}").write_bytes(content)
    return folder


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """`released(path)`: from now on the checkpoint at `path` is a known release, of the tiny model."""

    def now(path: Path) -> None:
        sums = open_checkpoint(path).checksums()
        known = Released("tiny-release", CONFIG, "made up", {n: c for n, c in sums.items() if "/Momentum" not in n})
        monkeypatch.setattr(fingerprints, "known_checkpoints", lambda: (known,))

    return now


def refused(path: Path, message: str, tmp_path: Path) -> None:
    """Neither converted nor called the release, and what is wrong is named."""
    output = tmp_path / "out.safetensors"
    for result in (run("identify", path), run("tf2torch", "--model", CONFIG, "--ckpt", path, "-o", output)):
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert result.stdout == ""
    assert not output.exists()
    with pytest.raises(CheckpointError, match="variable"):
        fingerprint_of(path, verify=True)


@pytest.mark.parametrize("suffix", ["", EMA_SUFFIX])
def test_a_bit_of_one_tensor(suffix: str, released: Callable[[Path], None], tmp_path: Path) -> None:
    released(SWISH)
    folder = tmp_path / "changed"
    folder.mkdir()
    for name in ("model.index", f"model{DATA}"):
        (folder / name).write_bytes((SWISH / name).read_bytes())
    assert run("identify", folder).stdout.splitlines()[0].endswith(": tiny-release")
    assert fingerprint_of(folder, verify=True) == "tiny-release"
    data = bytearray((folder / f"model{DATA}").read_bytes())
    name = "resample_p6/bn/beta" + suffix
    place = bytes(data).index(read_all(SWISH)[name].tobytes())
    data[place] ^= 1
    (folder / f"model{DATA}").write_bytes(data)
    refused(folder, f"variable {name}: checksum", tmp_path)
    # The index is still that of the release, and no more than that is said of it.
    result = run("inspect", folder)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"variable {name}: checksum" in result.stderr
    unchecked = run("inspect", folder, "--no-verify").stdout
    assert "by its index" in unchecked
    assert "not checked" in unchecked
    by_index = run("identify", folder, "--no-verify")
    assert (by_index.exit_code, by_index.stdout.splitlines()[1]) == (0, "  by the index alone: no data was checked")


@pytest.mark.parametrize("number", range(SHARDS))
def test_a_shard_of_another_checkpoint(number: int, released: Callable[[Path], None], tmp_path: Path) -> None:
    folder, other = sharded(tmp_path / "one"), sharded(tmp_path / "other", 2.0)
    released(folder)
    assert run("identify", folder).exit_code == 0
    (folder / f"model{NAMES[number]}").write_bytes((other / f"model{NAMES[number]}").read_bytes())
    refused(folder, "checksum", tmp_path)


def test_two_shards_exchanged(released: Callable[[Path], None], tmp_path: Path) -> None:
    folder = sharded(tmp_path / "one")
    released(folder)
    first, second = (folder / f"model{name}" for name in NAMES[:2])
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    refused(folder, "variable", tmp_path)


def test_the_first_shard_missing_is_not_an_index_alone(released: Callable[[Path], None], tmp_path: Path) -> None:
    folder = sharded(tmp_path / "one")
    released(folder)
    (folder / f"model{NAMES[0]}").unlink()
    result = run("identify", folder)
    assert result.exit_code == 2
    assert f"model{NAMES[0]}: this part of the checkpoint cannot be read" in result.stderr


def test_a_compressed_table_is_refused_by_every_command(tmp_path: Path) -> None:
    index = bytearray((SWISH / "model.index").read_bytes())
    place = len(index) - 48 - 5  # the trailer of the last block, before the footer
    assert index[place] == NO_COMPRESSION
    index[place] = SNAPPY
    (tmp_path / "model.index").write_bytes(index)
    (tmp_path / f"model{DATA}").write_bytes((SWISH / f"model{DATA}").read_bytes())
    for command in (["identify"], ["inspect", "--no-verify"], ["tf2torch", "--model", CONFIG, "--no-verify", "--ckpt"]):
        result = run(*command, tmp_path)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) <= 2
        assert result.stdout == ""
        if "--no-verify" in command:
            assert "is snappy-compressed, which effconv does not read" in result.stderr
