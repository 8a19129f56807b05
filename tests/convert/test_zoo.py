"""Released checkpoints: the table, and downloading into the cache from a server on loopback that stands in."""

import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.convert import fingerprints, zoo
from effconv.convert.apply import EMA_SUFFIX, IncompleteConversion
from effconv.convert.conversion import write_checkpoint
from effconv.convert.download import DownloadError
from effconv.convert.fingerprints import Released, known_checkpoints
from effconv.convert.rules import rules
from effconv.convert.sources import open_checkpoint
from effconv.convert.weights_file import read_weights
from effconv.convert.zoo import RELEASES, Release, cache_folder, download, find_release
from effconv.effdet_torch.config import OFFICIAL_NAMES, VARIANTS, ConfigError, get_config
from effconv.errors import CheckpointError, EffconvError


def test_every_official_model_has_a_release() -> None:
    assert {release.model for release in RELEASES} == set(VARIANTS)
    assert len({release.path for release in RELEASES}) == len(RELEASES)
    for name in OFFICIAL_NAMES:
        assert find_release(VARIANTS[name]).generation == ("coco" if "lite" in name else "coco2")


def test_every_fingerprint_named_is_there_and_of_that_model() -> None:
    known = {row.label: row.model for row in known_checkpoints()}
    named = {release.fingerprint: release.model for release in RELEASES if release.fingerprint}
    assert len(named) == 6
    assert all(known[label] == model for label, model in named.items())


def test_generations_are_chosen_and_listed() -> None:
    assert find_release(get_config("b1")).path == "coco2/efficientdet-d1.tar.gz"
    assert find_release(get_config("d0"), "coco").path == "coco/efficientdet-d0.tar.gz"
    assert find_release(get_config("d3-advprop")).path == "advprop/efficientdet-d3.tar.gz"
    with pytest.raises(ConfigError, match="no released checkpoint of generation 'imagenet'; there are: coco2, coco"):
        find_release(get_config("d0"), "imagenet")


def test_custom_model_has_no_release(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tiny.name} has no released checkpoint; give one$"):
        find_release(get_config(str(tiny / "config.json")))


def test_cache_folder_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EFFCONV_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("EFFCONV_CACHE")
    assert cache_folder().name == "effconv"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Keep test output clean."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder a mirror on loopback serves; the cache is a fresh folder beside it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("EFFCONV_MIRROR", f"http://127.0.0.1:{server.server_address[1]}/")
        monkeypatch.setenv("EFFCONV_CACHE", str(tmp_path / "cache"))
        yield folder
        server.shutdown()


def model_of(folder: Path) -> str:
    return str(folder / "config.json")


def archive(folder: Path, path: str, source: Path) -> bytes:
    """Put a checkpoint's files into an archive as releases are packed; returns its bytes."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w:gz", compresslevel=1) as tar:
        for name in ("checkpoint", "model.data-00000-of-00001", "model.index"):
            tar.add(source / name, f"efficientdet/{name}")
    return target.read_bytes()


def test_download_is_verified_by_a_published_sha256(served: Path, tiny: Path) -> None:
    content = archive(served, "x/a.tar.gz", tiny)
    digest = hashlib.sha256(content).hexdigest()
    found = download(Release(model_of(tiny), "x", "x/a.tar.gz", len(content), digest, None))
    assert (found.path.read_bytes(), found.sha256) == (content, digest)
    assert found.verification == "verified by its published sha256"
    with pytest.raises(DownloadError, match="sha256"):  # what is in the cache is not what was published
        download(Release(model_of(tiny), "x", "x/a.tar.gz", None, "0" * 64, None))


def test_wrong_sha256_leaves_no_archive(served: Path, tiny: Path) -> None:
    archive(served, "x/a.tar.gz", tiny)
    with pytest.raises(DownloadError, match="0" * 64):
        download(Release(model_of(tiny), "x", "x/a.tar.gz", None, "0" * 64, None))
    assert [path.name for path in cache_folder().rglob("*.tar.gz*") if not path.name.endswith(".lock")] == []


def test_a_failed_download_says_where_a_file_fetched_by_hand_is_to_be_put(served: Path, tiny: Path) -> None:
    content = archive(served, "x/a.tar.gz", tiny)
    (served / "x/a.tar.gz").rename(served / "fetched by hand")
    digest = hashlib.sha256(content).hexdigest()
    for known, said in (((len(content), digest), rf" \({len(content)} bytes, sha256 {digest}\)"), ((None, None), "")):
        release = Release(model_of(tiny), "x", "x/a.tar.gz", *known, None)
        path = cache_folder() / "x" / "a.tar.gz"
        wanted = rf"404.*\nOr put the file, fetched by other means, at {re.escape(str(path))}{said} and run again$"
        with pytest.raises(DownloadError, match=wanted):
            download(release)
        path.write_bytes(b"another file")
        with pytest.raises(DownloadError, match=wanted):
            download(release)
        path.write_bytes(content)
        assert download(release).path.read_bytes() == content
        path.unlink()
        path.with_name(path.name + ".json").unlink(missing_ok=True)


def test_download_is_verified_by_fingerprint(served: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(served, "x/a.tar.gz", tiny)
    checksums = open_checkpoint(tiny).checksums()
    config = get_config(str(tiny / "config.json"))
    monkeypatch.setattr(fingerprints, "get_config", lambda name: config)
    wanted = {name: crc for name, crc in checksums.items() if not name.endswith("/Momentum")}
    monkeypatch.setattr(fingerprints, "known_checkpoints", lambda: (Released("right", tiny.name, "x", wanted),))
    found = download(Release(model_of(tiny), "x", "x/a.tar.gz", None, None, "right"))
    assert found.verification == "verified by the fingerprint of every tensor (right)"

    name = next(iter(wanted))
    wrong = Released("right", tiny.name, "x", wanted | {name: wanted[name] ^ 1})
    monkeypatch.setattr(fingerprints, "known_checkpoints", lambda: (wrong,))
    found.path.unlink()
    with pytest.raises(CheckpointError, match=f"{len(wanted) - 1} of {len(wanted)} tensors agree"):
        download(Release(model_of(tiny), "x", "x/a.tar.gz", None, None, "right"))
    assert not found.path.exists()


def test_without_a_published_checksum_the_first_download_is_recorded(served: Path, tiny: Path) -> None:
    release = Release(model_of(tiny), "x", "x/a.tar.gz", None, None, None)
    archive(served, release.path, tiny)
    first = download(release)
    assert first.verification.endswith("no checksum of it was published, its sha256 is now on record")
    assert download(release).verification == "as downloaded and verified before (sha256)"

    first.path.unlink()
    (served / release.path).write_bytes(b"something else")
    with pytest.raises(DownloadError, match=first.sha256):
        download(release)
    assert not first.path.exists()
    assert download(release, verify=False).path.read_bytes() == b"something else"
    with pytest.raises(
        CheckpointError, match="not a TensorFlow checkpoint"
    ):  # what was not verified is not trusted later
        download(release._replace(fingerprint="efficientdet-d0.coco2-343"))


def test_an_archive_of_another_model_or_with_damage_is_not_kept(served: Path, tiny: Path, tmp_path: Path) -> None:
    release = Release("efficientdet-d3", "x", "x/a.tar.gz", None, None, None)
    archive(served, release.path, tiny)
    with pytest.raises(IncompleteConversion, match="does not fit efficientdet-d3"):
        download(release)
    broken = Path(shutil.copytree(tiny, tmp_path / "broken"))
    data = bytearray((broken / "model.data-00000-of-00001").read_bytes())
    data[100] ^= 1
    (broken / "model.data-00000-of-00001").write_bytes(bytes(data))
    archive(served, release.path, broken)
    with pytest.raises(CheckpointError, match="checksum"):
        download(release._replace(model=model_of(tiny)))
    assert list(cache_folder().rglob("*.tar.gz")) == []


def test_a_cached_archive_that_changed_is_fetched_again(served: Path, tiny: Path) -> None:
    release = Release(model_of(tiny), "x", "x/a.tar.gz", None, None, None)
    content = archive(served, release.path, tiny)
    path = download(release).path
    path.write_bytes(content[:-1])
    assert download(release).path.read_bytes() == content


def test_damaged_record_is_named(served: Path, tiny: Path) -> None:
    release = Release(model_of(tiny), "x", "x/a.tar.gz", None, None, None)
    archive(served, release.path, tiny)
    record = download(release).path.with_name("a.tar.gz.json")
    record.write_text("{")
    with pytest.raises(CheckpointError, match=r"a.tar.gz.json: not a readable download record .* delete it"):
        download(release)


# --- through the command line ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with lite0's variables: zeros, so that its archive is small."""
    folder = tmp_path_factory.mktemp("lite0")
    config = get_config("lite0")
    state = {rule.torch: np.zeros(rule.layout.torch_shape(rule.shape), np.float32) for rule in rules(config)}
    write_checkpoint(state, state, config, folder / "model", "zeros")
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_tf2torch_without_a_checkpoint_downloads_the_released_one(served: Path, lite0: Path, tmp_path: Path) -> None:
    archive(served, "coco/efficientdet-lite0.tgz", lite0)
    output = tmp_path / "lite0.safetensors"
    first = run("tf2torch", "--model", "lite0", "-o", str(output), "--json")
    assert first.exit_code == 0, first.output
    assert "no checksum of it was published" in first.stderr
    assert json.loads(first.stdout)["weights"] == "ema"
    assert len(read_weights(output)[0]) == len(rules(get_config("lite0")))
    (served / "coco" / "efficientdet-lite0.tgz").unlink()
    again = run("tf2torch", "--model", "lite0", "-o", str(output))
    assert again.exit_code == 0, again.output
    assert "as downloaded and verified before" in again.stderr


def test_download_prints_the_path(served: Path, lite0: Path) -> None:
    archive(served, "coco/efficientdet-lite0.tgz", lite0)
    done = run("download", "--model", "lite0")
    assert Path(done.stdout.strip()) == cache_folder() / "coco" / "efficientdet-lite0.tgz"
    assert json.loads(run("download", "--model", "lite0", "--json").stdout) == {"path": done.stdout.strip()}


def test_download_that_is_not_there(served: Path, tmp_path: Path) -> None:
    done = run("tf2torch", "--model", "lite0", "-o", str(tmp_path / "x.safetensors"))
    assert done.exit_code == 2
    assert "404" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "x.safetensors").exists()


def test_a_cache_that_cannot_be_written_is_named(
    served: Path, lite0: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(served, "coco/efficientdet-lite0.tgz", lite0)
    (tmp_path / "taken").write_bytes(b"a file")
    monkeypatch.setenv("EFFCONV_CACHE", str(tmp_path / "taken"))
    done = run("download", "--model", "lite0")
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert "taken" in done.stderr
    assert "not writable or readable" in done.stderr


def test_a_record_that_cannot_be_written_is_named(served: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(served, "x/a.tar.gz", tiny)
    write_text = Path.write_text

    def full(path: Path, *arguments: str, **options: str) -> int:
        if path.name.startswith(".a.tar.gz.json"):
            raise OSError(28, "No space left on device")
        return write_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(EffconvError, match=r"a\.tar\.gz\.json: cannot be written \(No space left"):
        download(Release(model_of(tiny), "x", "x/a.tar.gz", None, None, None))
    assert list(cache_folder().rglob("*.json*")) == []


def test_fingerprint_labels_use_the_tf1_names(lite0: Path) -> None:
    names = set(open_checkpoint(lite0).variables)
    assert {rule.tf + EMA_SUFFIX for rule in rules(get_config("lite0"))} < names
    assert zoo.BASE_URL.startswith("https://storage.googleapis.com/")
