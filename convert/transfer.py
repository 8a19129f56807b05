"""One file on its way over HTTP: into `<destination>.part`, resumed by ranges, over as many requests as it takes.

Written by hand because pooch starts over after a cut, requests leaves ranges to its caller, and files reach 0.8 GB.
A sidecar keeps what the server called the file: bytes are joined only to bytes of the very same file.
"""

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol
from urllib.parse import urlsplit

from ..errors import EffconvError
from ..strict_json import json_text

CHUNK = 256 << 10
BACKOFF_SECONDS = 0.5  # doubled after every failure in a row
MAX_BACKOFF_SECONDS = 8.0
# What may pass: Request Timeout, Range Not Satisfiable (the part is thrown away first), Too Many Requests.
TRANSIENT_4XX = (408, 416, 429)


class DownloadError(EffconvError):
    """A file that could not be had from its URL, or is not the file it should be."""


class DiskError(DownloadError):
    """A file that could not be kept here, whatever the network did."""


class Progress(Protocol):
    """Told how far a download is, in bytes. `total_bytes` is None while the server has not said."""

    def __call__(self, done_bytes: int, total_bytes: int | None, /) -> None: ...


class _Kept(NamedTuple):
    """What is there of a file: so many bytes of `total`, of the file that the server calls `validator`."""

    bytes: int
    total: int
    validator: str


NOTHING = _Kept(0, 0, "")


class _NoFtp(urllib.request.FTPHandler):
    """The one redirection out of the web that urllib would follow."""

    def ftp_open(self, req: urllib.request.Request) -> NoReturn:
        raise DownloadError(f"{req.full_url}: expected an http or https URL, and was sent there; check the URL")


class Transfer:
    """One file on its way. `size` in bytes is what it must have, `timeout` in seconds bounds each wait."""

    def __init__(self, url: str, destination: Path, size: int | None, report: Progress, timeout: float):
        self.url = url
        self.part = beside(destination, ".part")
        self.sidecar = beside(destination, ".part.json")
        self.size = size
        self.report = report
        self.timeout = timeout

    def run(self, attempts: int) -> None:
        """Receive the rest of the file. Raises DownloadError after `attempts` failures in a row without new bytes."""
        failures, furthest = 0, self._kept().bytes
        while True:
            try:
                return self._receive()
            except (http.client.HTTPException, OSError) as error:  # trouble with the disk is a DownloadError by now
                reason = getattr(error, "reason", error)
                if isinstance(reason, ssl.SSLCertVerificationError):
                    raise DownloadError(f"{self.url}: certificate refused ({reason}); check clock and proxy") from error
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                    if error.code < 500 and error.code not in TRANSIENT_4XX:
                        refused = f"{self.url}: the server answers {error}; check the URL and access"
                        raise DownloadError(refused) from error
                    if error.code == 416:
                        self.discard()
                with on_disk(self.part):
                    received = self.part.stat().st_size if self.part.exists() else 0
                # New bytes only: a server that cannot resume and cuts every time must not loop forever.
                failures = 0 if received > furthest else failures + 1
                furthest = max(received, furthest)
                if failures >= attempts:
                    kept = self._kept().bytes / 1e6
                    raise DownloadError(
                        f"{self.url}: no answer, or not a whole one ({error})\n"
                        f"Run the command again; it goes on after the {kept:.1f} MB that {self.part} keeps"
                    ) from error
                time.sleep(min(BACKOFF_SECONDS * 2 ** max(failures - 1, 0), MAX_BACKOFF_SECONDS))

    def discard(self) -> None:
        """Throw away what was received, so that the next call starts from zero."""
        with on_disk(self.part):
            # The bytes first: a sidecar without bytes is harmless, the reverse order would leave unexplained bytes.
            self.part.unlink(missing_ok=True)
            self.sidecar.unlink(missing_ok=True)

    def _receive(self) -> None:
        done, known, validator = self._kept()
        total: int | None = known
        if validator and done == known:
            return self.report(done, known)
        headers = {"User-Agent": "effconv"}  # urllib itself asks for Accept-Encoding: identity
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": validator}
        request = urllib.request.Request(self.url, headers=headers)
        try:
            answer = urllib.request.build_opener(_NoFtp).open(request, timeout=self.timeout)
        except (http.client.InvalidURL, ValueError) as error:
            raise DownloadError(f"{self.url!r} is not a usable URL ({error}); correct it") from error
        with answer as response:
            encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
            if encoding != "identity":
                raise DownloadError(f"{self.url}: sent as {encoding!r}, expected the plain file; use another mirror")
            if response.status == 206 and done:
                wanted = f"bytes {done}-{known - 1}/{known}", known - done, validator
                names = _validator(response.headers) or validator
                found = response.headers.get("Content-Range"), response.length or known - done, names
                if found != wanted:
                    self.discard()
                    raise ConnectionError(f"asked for {wanted}, got {found}")
            elif response.status == 200:
                done, total = 0, self.size if response.length is None else response.length
                self._begin(response.headers, total)
            else:
                raise DownloadError(f"{self.url}: status {response.status}, expected 200 or 206; check the URL")
            self._append(response, done, total)
        return None

    def _begin(self, headers: Message, total: int | None) -> None:
        if self.size not in (None, total):
            raise DownloadError(
                f"{self.url}: the server announces {total} bytes, expected {self.size}; "
                "the file there is another one: check the URL"
            )
        validator = _validator(headers)
        self.discard()
        with on_disk(self.part):
            self.part.touch()
            if validator and total is not None:
                self.sidecar.write_text(json_text([self.url, total, validator]), encoding="utf-8")

    def _append(self, response: http.client.HTTPResponse, done: int, total: int | None) -> None:
        self.report(done, total)
        # read1, not read: when the connection breaks, read would lose what it had gathered for a full chunk.
        while chunk := response.read1(CHUNK):
            done += len(chunk)
            if total is not None and done > total:
                self.discard()
                raise DownloadError(f"{self.url}: more bytes came than the {total} expected; check the URL")
            with on_disk(self.part), open(self.part, "ab") as file:
                file.write(chunk)
            self.report(done, total)
        if total is not None and done < total:
            raise ConnectionError(f"the connection ended at {done} of {total} bytes")
        self.report(done, done)

    def _kept(self) -> _Kept:
        """What the sidecar explains; anything else means starting from zero, which is always right."""
        with on_disk(self.sidecar):
            try:
                url, total, validator = json.loads(self.sidecar.read_bytes())
                done = self.part.stat().st_size
            except (FileNotFoundError, ValueError, TypeError):
                return NOTHING
        sound = url == self.url and isinstance(total, int) and done <= total and _is_strong(validator)
        return _Kept(done, total, validator) if sound else NOTHING


def _validator(headers: Message) -> str | None:
    return next((value for name in ("ETag", "Last-Modified") if _is_strong(value := headers.get(name))), None)


def _is_strong(validator: object) -> bool:
    # A weak ETag promises the same meaning, not the same bytes, so pieces of two such files must not be joined.
    return isinstance(validator, str) and re.fullmatch(r"(?!W/)[ -~]+", validator) is not None


def require_http(url: str) -> None:
    """Raise DownloadError for anything but an http or https URL."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise DownloadError(f"{url!r} is not a URL ({error}); correct it") from error
    if scheme not in ("http", "https"):
        raise DownloadError(f"{url!r}: expected an http or https URL, got scheme {scheme!r}; correct it")


def beside(destination: Path, ending: str) -> Path:
    """A file that belongs to `destination`, in the same folder."""
    return destination.with_name(destination.name + ending)


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Tell trouble with the disk from trouble with the network: both are OSError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DiskError(f"{path}: not writable or readable ({reason}); free space or change folder") from error
