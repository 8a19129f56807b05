"""Get one file over HTTP: resumed where it was cut, verified before it appears, and never half there."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import EffconvError
from .transfer import DiskError, DownloadError, Progress, Transfer, beside, on_disk, require_http

__all__ = ["DownloadError", "Progress", "fetch"]


def fetch(
    url: str,
    destination: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
    report: Progress | None = None,
    attempts: int = 5,
    timeout: float = 30.0,
) -> str:
    """Download `url` to `destination`, replacing what is there; returns the sha256 (hex) of the file now there.

    `size` (bytes) and `sha256` (hex) are what the file must have. `check` gets the finished file before it is put in
    place and may raise EffconvError. `report` is called at the start, after every piece and at the end. `attempts`
    failures in a row that brought nothing new end the download; `timeout` (seconds) bounds each wait for the server.

    Bytes received are kept in `<destination>.part` and a later call goes on from them. A second caller for the same
    destination waits for the first (at `<destination>.lock`, which stays) and takes its file if that is the right one.

    Raises DownloadError, or what `check` raised; `destination` is then as it was before.
    """
    require_http(url)
    with on_disk(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.is_dir():
            raise DownloadError(f"{destination}: is a folder, expected a file name; choose another destination")
        before = _identity(destination)

    from filelock import FileLock  # 0.1 s, for those alone who download

    with on_disk(destination):
        lock = FileLock(beside(destination, ".lock")).acquire()
    with lock:
        if _identity(destination) not in (None, before):
            try:
                return _verified(url, destination, size, sha256, check)
            except EffconvError:
                pass  # the other caller wanted another file: get ours
        transfer = Transfer(url, destination, size, report or _unheard, timeout)
        try:
            transfer.run(attempts)
            digest = _verified_or_discarded(transfer, size, sha256, check)
        except DiskError:
            raise
        except DownloadError as error:
            raise DownloadError(f"{error}{_by_hand(error, destination, size, sha256)}") from error
        with on_disk(destination):
            with open(transfer.part, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(transfer.part, destination)
            transfer.sidecar.unlink(missing_ok=True)
        return digest


def _verified_or_discarded(
    transfer: Transfer, size: int | None, sha256: str | None, check: Callable[[Path], None] | None
) -> str:
    try:
        return _verified(transfer.url, transfer.part, size, sha256, check)
    except EffconvError:
        transfer.discard()
        raise


def _by_hand(error: DownloadError, destination: Path, size: int | None, sha256: str | None) -> str:
    """The way out where the network leads nowhere, as the end of a message of at most two lines."""
    joint = "; or" if "\n" in str(error) else "\nOr"
    known = ", ".join(([f"{size} bytes"] if size else []) + ([f"sha256 {sha256}"] if sha256 else []))
    return f"{joint} put the file, fetched by other means, at {destination}{known and f' ({known})'} and run again"


def _verified(url: str, path: Path, size: int | None, sha256: str | None, check: Callable[[Path], None] | None) -> str:
    with on_disk(path), open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if size not in (None, found):
        raise DownloadError(f"{url}: expected {size} bytes, got {found}; check the URL")
    if sha256 is not None and digest != sha256.lower():
        raise DownloadError(
            f"{url}: expected sha256 {sha256.lower()}, got {digest}\n"
            "The download was thrown away: run the command again, or check the URL"
        )
    if check is not None:
        check(path)
    return digest


def _unheard(done_bytes: int, total_bytes: int | None) -> None:
    """The Progress of a caller that asked for none."""


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
