"""The released official checkpoints: where each is, how it is recognised, and a verified copy of it in the cache.

Addresses and sizes are those of google/automl `efficientdet/README.md`, `Det-AdvProp.md` and its tutorial's logs.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..effdet_torch.config import Config, ConfigError, get_config
from ..errors import CheckpointError, EffconvError
from ..strict_json import json_text
from .apply import plan
from .download import fetch
from .fingerprints import identify
from .output import replacing
from .sources import open_checkpoint

BASE_URL = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet"
CACHE_VARIABLE = "EFFCONV_CACHE"
NOT_VERIFIED = "not verified, as asked"
MIRROR_VARIABLE = "EFFCONV_MIRROR"  # replaces BASE_URL, for a mirror inside a closed network

# What is known of an archive beforehand: its size in bytes and its sha256.
_ARCHIVES: dict[str, tuple[int | None, str | None]] = {
    "coco2/efficientdet-d0.tar.gz": (28828936, "74794c937aa1fa2f559c2393d22b251b1f7135a49b108bd0414bc4f4800ca15d"),
    "coco2/efficientdet-d1.tar.gz": (48828228, "31d8741da9840ab8bddfaa041d395d84a8c1e4e54db01cf8d277471afad5d6e0"),
    "coco/efficientdet-d0.tar.gz": (28994253, None),
    "coco/efficientdet-d4.tar.gz": (152915674, None),
}
# Releases whose every tensor's checksum is on record (results/fingerprints/).
_FINGERPRINTS = {
    "coco2/efficientdet-d0.tar.gz": "efficientdet-d0.coco2-343",
    "coco2/efficientdet-d1.tar.gz": "efficientdet-d1.coco2-402",
    "coco2/efficientdet-d2.tar.gz": "efficientdet-d2.coco2-435",
    "coco/efficientdet-d0.tar.gz": "efficientdet-d0.coco-335",
    "coco/efficientdet-d2.tar.gz": "efficientdet-d2.coco-425",
    "coco/efficientdet-d4.tar.gz": "efficientdet-d4.coco-490",
}


class Release(NamedTuple):
    """One released archive. `size` in bytes, `sha256` and `fingerprint` (a label) are None where not known."""

    model: str
    generation: str
    path: str  # below BASE_URL
    size: int | None
    sha256: str | None
    fingerprint: str | None

    @property
    def url(self) -> str:
        """Where the archive is downloaded from."""
        return f"{os.environ.get(MIRROR_VARIABLE, BASE_URL).rstrip('/')}/{self.path}"


def _releases() -> Iterator[Release]:
    def release(model: str, generation: str, path: str) -> Release:
        return Release(model, generation, path, *_ARCHIVES.get(path, (None, None)), _FINGERPRINTS.get(path))

    for short in ("d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x"):
        yield release(f"efficientdet-{short}", "coco2", f"coco2/efficientdet-{short}.tar.gz")
    for short in ("d0", "d1", "d2", "d3", "d4"):
        yield release(f"efficientdet-{short}", "coco", f"coco/efficientdet-{short}.tar.gz")
    for short in ("d2", "d3", "d4", "d5", "d6"):
        yield release(f"efficientdet-{short}-640", "coco640", f"coco640/efficientdet-{short}-640.tar.gz")
    for short in ("d0", "d1", "d2", "d3", "d4", "d5"):
        yield release(f"efficientdet-{short}-advprop", "advprop", f"advprop/efficientdet-{short}.tar.gz")
    for short in ("lite0", "lite1", "lite2", "lite3", "lite3x", "lite4"):
        yield release(f"efficientdet-{short}", "coco", f"coco/efficientdet-{short}.tgz")


RELEASES = tuple(_releases())


def find_release(config: Config, generation: str | None = None) -> Release:
    """The released checkpoint of a model; without `generation`, its newest.

    Raises ConfigError naming the generations there are.
    """
    released = [release for release in RELEASES if release.model == config.name]
    if not released:
        raise ConfigError(f"{config.name} has no released checkpoint; give one", parameters={"checkpoint": None})
    for release in released:
        if generation in (None, release.generation):
            return release
    known = ", ".join(release.generation for release in released)
    raise ConfigError(f"{config.name} has no released checkpoint of generation {generation!r}; there are: {known}")


def cache_folder() -> Path:
    """Where downloads are kept: EFFCONV_CACHE, or the platform's cache directory."""
    override = os.environ.get(CACHE_VARIABLE)
    if override:
        return Path(override)
    from platformdirs import user_cache_path

    return user_cache_path("effconv")


class Download(NamedTuple):
    """An archive in the cache, and how it was verified, as a phrase to print."""

    path: Path
    sha256: str
    verification: str


def download(
    release: Release, *, verify: bool = True, report: Callable[[int, int | None], None] | None = None
) -> Download:
    """The released archive, from the cache or the network. `report(done, total)` is told of bytes.

    It must be a sound checkpoint of its model, and agree with its published sha256 and the fingerprint of its tensors
    where those are known. Where neither is, the sha256 of the first download is recorded, and later ones must agree;
    `verify=False` skips all of it. Raises DownloadError, CheckpointError or IncompleteConversion, and then leaves
    nothing in the cache under the archive's name.
    """
    path = cache_folder() / release.path
    record = path.with_name(path.name + ".json")
    recorded = _recorded_sha256(record)
    expected = release.sha256 or recorded
    if path.is_file():
        if not verify:
            return Download(path, _sha256(path), NOT_VERIFIED)
        if expected and _sha256(path) == expected:
            return Download(path, expected, "as downloaded and verified before (sha256)")
    sha256 = None if expected else _put_there(path, release)
    sha256 = sha256 or fetch(
        release.url,
        path,
        size=release.size if verify else None,
        sha256=expected if verify else None,
        check=(lambda file: _require_sound(file, release)) if verify else None,
        report=report,
    )
    values = {"url": release.url, "sha256": sha256, "verified": verify}
    with replacing(record) as (file,):
        file.write_text(json_text(values) + "\n", encoding="utf-8")
    return Download(path, sha256, _how_verified(release, recorded) if verify else NOT_VERIFIED)


def _put_there(path: Path, release: Release) -> str | None:
    """The sha256 of an archive that the user has put into the cache; None where there is none, or not that one."""
    if not path.is_file() or release.size not in (None, path.stat().st_size):
        return None
    try:
        _require_sound(path, release)
    except EffconvError:  # got anew
        return None
    return _sha256(path)


def _how_verified(release: Release, recorded: str | None) -> str:
    ways = ["its published sha256"] if release.sha256 else []
    if release.fingerprint:
        ways.append(f"the fingerprint of every tensor ({release.fingerprint})")
    if ways:
        return "verified by " + " and ".join(ways)
    sound = f"a sound checkpoint of {release.model}; no checksum of it was published"
    return f"{sound}, its sha256 is {'that of an earlier download' if recorded else 'now on record'}"


def _require_sound(file: Path, release: Release) -> None:
    checkpoint = open_checkpoint(file)
    plan(checkpoint, get_config(release.model))
    checkpoint.verify()
    if release.fingerprint:
        agreements = {row.label: row for row in identify(checkpoint).agreements}
        agreement = agreements[release.fingerprint]
        if agreement.equal != agreement.total:
            raise CheckpointError(
                f"{file}: not the released checkpoint {release.fingerprint}: {agreement.equal} of {agreement.total} "
                "tensors agree; the release may have changed: take it as it is, unverified, if you will",
                parameters={"verify": False},
            )


def _recorded_sha256(record: Path) -> str | None:
    """The sha256 of an earlier download; None without one, or when that one was not verified."""
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        return str(values["sha256"]) if values["verified"] else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{record}: not a readable download record ({error}); delete it") from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); set {CACHE_VARIABLE}") from error
