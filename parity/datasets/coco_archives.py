"""COCO 2017 validation images and annotations: downloaded, verified by sha256, and unpacked into the cache.

Sizes and hashes are those of the two archives that cocodataset.org serves.
"""

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...convert.download import fetch
from ...convert.zoo import cache_folder
from ...errors import EffconvError

MIRROR_VARIABLE = "EFFCONV_COCO_MIRROR"  # replaces BASE_URL, for a mirror inside a closed network
BASE_URL = "http://images.cocodataset.org"
LARGEST_MEMBER = 1 << 29  # bytes; the annotations of the training images, the largest there is, have 470 MB
MARK = "complete"  # a file that says a folder was unpacked whole, and from what


class CocoArchive(NamedTuple):
    """One of COCO's archives and what is taken out of it: members whose whole name matches `wanted`."""

    path: str  # below BASE_URL
    size: int  # bytes
    sha256: str
    wanted: str

    @property
    def url(self) -> str:
        """Where it is downloaded from."""
        return f"{os.environ.get(MIRROR_VARIABLE, BASE_URL).rstrip('/')}/{self.path}"


ARCHIVES = (
    CocoArchive(
        "annotations/annotations_trainval2017.zip",
        252907541,
        "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        r"annotations/instances_val2017\.json",
    ),
    CocoArchive(
        "zips/val2017.zip",
        815585330,
        "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        r"val2017/[0-9]{12}\.jpg",
    ),
)

Report = Callable[[int, int | None], None]


def download_coco(report: Callable[[str], Report]) -> Path:
    """The folder of COCO 2017's validation set in the cache, downloaded and unpacked where it is not there yet.

    `report(what)` gives a progress report for each archive. Downloads resume, and are verified before anything is
    unpacked; a member outside `wanted` is left alone, so that nothing is written elsewhere. Raises EffconvError.
    """
    folder = cache_folder() / "coco2017"
    for archive in ARCHIVES:
        if _unpacked(folder, archive):
            continue
        file = cache_folder() / "coco2017-archives" / Path(archive.path).name
        name = Path(archive.path).name
        if not file.is_file() or file.stat().st_size != archive.size:
            fetch(archive.url, file, size=archive.size, sha256=archive.sha256, report=report(f"downloading {name}"))
        else:
            require_sha256(file, archive)
        unpack(file, archive, folder)
        file.unlink()
    return folder


def require_sha256(file: Path, archive: CocoArchive) -> None:
    """Raises EffconvError unless the file is the archive, byte for byte."""
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != archive.sha256:
        raise EffconvError(f"{file}: expected sha256 {archive.sha256}, found {found}; delete it to download it again")


def unpack(file: Path, archive: CocoArchive, folder: Path) -> None:
    """Take the wanted members of an archive into `folder`; the folder of members appears whole or not at all.

    Raises EffconvError for an archive that is damaged or holds none of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as temporary:
        try:
            with zipfile.ZipFile(file) as content:
                members = [each for each in content.infolist() if re.fullmatch(archive.wanted, each.filename)]
                if not members:
                    raise EffconvError(f"{file}: expected members like {archive.wanted}, found none")
                top = members[0].filename.split("/")[0]
                for member in members:
                    if member.file_size > LARGEST_MEMBER:
                        raise EffconvError(f"{file}: {member.filename} claims {member.file_size} bytes; not COCO's")
                    target = Path(temporary) / member.filename
                    target.parent.mkdir(exist_ok=True)
                    with content.open(member) as source, target.open("wb") as output:
                        shutil.copyfileobj(source, output)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise EffconvError(f"{file}: cannot be unpacked ({error}); delete it to download it again") from error
        shutil.rmtree(folder / top, ignore_errors=True)
        (Path(temporary) / top).replace(folder / top)
    _mark(folder, archive).write_text(archive.sha256 + "\n", encoding="utf-8")


def _mark(folder: Path, archive: CocoArchive) -> Path:
    return folder / f".{Path(archive.path).stem}.{MARK}"


def _unpacked(folder: Path, archive: CocoArchive) -> bool:
    mark = _mark(folder, archive)
    return mark.is_file() and mark.read_text(encoding="utf-8").strip() == archive.sha256
