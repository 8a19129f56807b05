"""Get one file over HTTP: resumed where it was cut, verified before it appears, and never half there."""

import hashlib
import http.client
import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import IO, NamedTuple, Protocol, TypeGuard
from urllib.parse import urlsplit

from ..errors import EffconvError

if sys.platform != "win32":
    import fcntl

CHUNK = 256 << 10
BACKOFF_SECONDS = 0.5  # doubled after every failure in a row
MAX_BACKOFF_SECONDS = 8.0
TRANSIENT_4XX = (408, 429)  # Request Timeout, Too Many Requests
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
UNSATISFIED_RANGE = re.compile(r"bytes \*/(\d{1,18})")


class DownloadError(EffconvError):
    """A file that could not be had from its URL, or is not the file it should be."""


class Progress(Protocol):
    """Told how far a download is, in bytes. `total_bytes` is None while the server has not said."""

    def __call__(self, done_bytes: int, total_bytes: int | None, /) -> None: ...


class _CutError(Exception):
    """A transfer that ended early for a reason that may pass."""


class _Record(NamedTuple):
    """What the sidecar says about the bytes in the part file."""

    url: str
    validator: str
    total: int | None


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _require_http(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _web_opener() -> urllib.request.OpenerDirector:
    # Not build_opener(): that one also opens file:, ftp: and data: addresses.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


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
    destination waits for the first and takes over its file if that is the right one.

    Raises DownloadError, or what `check` raised; `destination` is then as it was before.
    """
    _require_http(url)
    with _disk(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.is_dir():
            raise DownloadError(f"{destination}: is a folder, expected a file name; choose another destination")
        before = _identity(destination)
    with _exclusive(_beside(destination, ".lock")) as waited:
        if waited and _identity(destination) not in (None, before):
            try:
                return _verified(url, destination, size, sha256, check)
            except EffconvError:
                pass  # the other caller wanted another file: get ours
        transfer = _Transfer(url, destination, size, report or _unheard, timeout)
        transfer.run(attempts)
        try:
            digest = _verified(url, transfer.part, size, sha256, check)
        except EffconvError:
            transfer.discard()
            raise
        with _disk(destination):
            with open(transfer.part, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(transfer.part, destination)
            transfer.sidecar.unlink(missing_ok=True)
        return digest


class _Transfer:
    """One file on its way into `<destination>.part`, over as many requests as it takes."""

    def __init__(self, url: str, destination: Path, size: int | None, report: Progress, timeout: float):
        self.url = url
        self.part = _beside(destination, ".part")
        self.sidecar = _beside(destination, ".part.json")
        self.size = size
        self.report = report
        self.timeout = timeout
        self.opener = _web_opener()
        self.restarted = False

    def run(self, attempts: int) -> None:
        failures = 0
        furthest = self._kept() if self._record() else 0
        while True:
            try:
                self._receive()
                done = self._kept()
                self.report(done, done)
                return
            except _CutError as cut:
                kept = self._kept()
                # New bytes only: a server that cannot resume and cuts every time must not loop forever.
                failures = 0 if kept > furthest else failures + 1
                furthest = max(kept, furthest)
                if failures >= attempts:
                    raise DownloadError(f"{self.url}: {cut}\n{self._next_step()}") from cut
                time.sleep(min(BACKOFF_SECONDS * 2 ** max(failures - 1, 0), MAX_BACKOFF_SECONDS))

    def discard(self) -> None:
        with _disk(self.part):
            # The bytes first: a sidecar without bytes is harmless, the reverse order would leave unexplained bytes.
            self.part.unlink(missing_ok=True)
            self.sidecar.unlink(missing_ok=True)

    def _receive(self) -> None:
        record = self._record()
        offset = self._kept() if record else 0
        headers = {"User-Agent": "effconv"}  # urllib itself asks for Accept-Encoding: identity
        if record and offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": record.validator}
        try:
            response: http.client.HTTPResponse = self.opener.open(
                urllib.request.Request(self.url, headers=headers), timeout=self.timeout
            )
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and record and offset:
                    return self._at_the_end(error.headers, offset, record)
                raise self._refused(error) from error
        except (http.client.InvalidURL, ValueError) as error:
            raise DownloadError(f"{self.url!r} is not a usable URL ({error}); correct it") from error
        except (http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise DownloadError(f"{self.url}: certificate refused ({reason}); check clock and proxy") from error
            raise _CutError(f"no answer ({reason})") from error
        with response:
            total = response.length
            encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
            if encoding != "identity":
                raise DownloadError(f"{self.url}: sent as {encoding!r}, expected the plain file; use another mirror")
            if response.status == 206:
                problem = self._range_problem(response, offset, record)
                if problem:
                    return self._restart(problem)
                total = int(response.headers["Content-Range"].rpartition("/")[2])
            elif response.status == 200:
                offset = 0
            else:
                raise DownloadError(f"{self.url}: status {response.status}, expected 200 or 206; check the URL")
            if self.size is not None and total not in (None, self.size):
                raise DownloadError(
                    f"{self.url}: the server announces {total} bytes, expected {self.size}; "
                    "the file there is another one: check the URL"
                )
            if not offset:
                self._begin(response.headers, total)
            self._append(response, offset, total if self.size is None else self.size)
        return None

    def _append(self, response: http.client.HTTPResponse, done: int, total: int | None) -> None:
        self.report(done, total)
        with _disk(self.part):
            file = open(self.part, "ab")  # noqa: SIM115  (opening and closing fail as the disk does, reading does not)
        try:
            for chunk in _chunks(response):
                if total is not None and done + len(chunk) > total:
                    self.discard()
                    raise DownloadError(
                        f"{self.url}: more bytes came than the {total} expected; check the URL, then run again"
                    )
                with _disk(self.part):
                    file.write(chunk)
                done += len(chunk)
                self.report(done, total)
        finally:
            with _disk(self.part):
                file.close()
        if total is not None and done < total:
            raise _CutError(f"the connection ended at {done} of {total} bytes")

    def _begin(self, headers: Message, total: int | None) -> None:
        validator = _validator(headers)
        self.discard()
        if validator is not None:
            record = _Record(self.url, validator, total)
            with _disk(self.sidecar):
                self.sidecar.write_text(json.dumps(record._asdict()), encoding="utf-8")

    def _range_problem(self, response: http.client.HTTPResponse, offset: int, record: _Record | None) -> str | None:
        """What is wrong with a 206 answer, or None: bytes may be appended only where they belong."""
        header = response.headers.get("Content-Range", "")
        match = CONTENT_RANGE.fullmatch(header.strip())
        if record is None or match is None or not offset:
            return f"unusable partial answer, Content-Range {header!r}"
        start, end, total = (int(number) for number in match.groups())
        if start != offset or end + 1 != total or record.total not in (None, total):
            return f"asked for bytes {offset}- of {record.total}, got Content-Range {header!r}"
        if response.length not in (None, total - start):
            return f"Content-Range {header!r} with a Content-Length of {response.length}"
        if _validator(response.headers) not in (None, record.validator):
            return "the file changed, yet the server sent the rest of the new one"
        return None

    def _at_the_end(self, headers: Message, offset: int, record: _Record) -> None:
        match = UNSATISFIED_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        totals = {total for total in (record.total, int(match[1]) if match else None) if total is not None}
        if totals != {offset}:
            self._restart(f"no bytes from {offset} on, though {record.total} were announced")

    def _restart(self, problem: str) -> None:
        self.discard()
        if self.restarted:
            raise DownloadError(f"{self.url}: {problem}\nThis was the second time; try another network or mirror")
        self.restarted = True
        self._receive()

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        if error.code >= 500 or error.code in TRANSIENT_4XX:
            return _CutError(f"the server answers {error.code} {error.reason}")
        return DownloadError(f"{self.url}: the server answers {error.code} {error.reason}; check the URL and access")

    def _kept(self) -> int:
        with _disk(self.part):
            try:
                return self.part.stat().st_size
            except FileNotFoundError:
                return 0

    def _record(self) -> _Record | None:
        """The sidecar, if it explains the part file; anything else means starting from zero, which is always right."""
        with _disk(self.sidecar):
            text = self.sidecar.read_bytes() if self.sidecar.exists() else b""
        try:
            record = _Record(**json.loads(text))
        except (ValueError, TypeError):
            return None
        if record.url != self.url or not _is_strong(record.validator) or not isinstance(record.total, int | None):
            return None
        return record if record.total is None or self._kept() <= record.total else None

    def _next_step(self) -> str:
        kept, record = self._kept(), self._record()
        if not kept or record is None:
            return "Run the command again; it starts from the beginning"
        total = self.size if record.total is None else record.total
        of_total = "" if total is None else f" of {total / 1e6:.1f}"
        return f"Run the command again to resume: {kept / 1e6:.1f}{of_total} MB are kept in {self.part}"


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        # read1, not read: when the connection breaks, read would lose what it had gathered for a full chunk.
        while chunk := response.read1(CHUNK):
            yield chunk
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(f"the connection broke ({error!r})") from error


def _verified(url: str, path: Path, size: int | None, sha256: str | None, check: Callable[[Path], None] | None) -> str:
    with _disk(path), open(path, "rb") as file:
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


def _validator(headers: Message) -> str | None:
    return next((value for name in ("ETag", "Last-Modified") if _is_strong(value := headers.get(name))), None)


def _is_strong(validator: object) -> TypeGuard[str]:
    # A weak ETag promises the same meaning, not the same bytes, so pieces of two such files must not be joined.
    return isinstance(validator, str) and re.fullmatch(r"(?!W/)[ -~]+", validator) is not None


def _require_http(url: str) -> None:
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise DownloadError(f"{url!r} is not a URL ({error}); correct it") from error
    if scheme not in ("http", "https"):
        raise DownloadError(f"{url!r}: expected an http or https URL, got scheme {scheme!r}; correct it")


def _unheard(done_bytes: int, total_bytes: int | None) -> None:
    """The Progress of a caller that asked for none."""


def _beside(destination: Path, ending: str) -> Path:
    return destination.with_name(destination.name + ending)


def _identity(file: Path | int) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Tell trouble with the disk from trouble with the network: both are OSError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DownloadError(f"{path}: not writable or readable ({reason}); free space or change folder") from error


@contextmanager
def _exclusive(path: Path) -> Iterator[bool]:
    """Hold `path` as a lock between processes and threads; gives whether another holder had to be waited for."""
    if sys.platform == "win32":
        yield False
        return
    waited = False
    while True:
        with _disk(path):
            lock = open(path, "wb")  # noqa: SIM115  (held until the caller is done)
        with lock:
            with _disk(path):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    waited = True
                    fcntl.flock(lock, fcntl.LOCK_EX)
                # The holder before us removes the file: a lock on a removed file excludes nobody.
                if _identity(lock.fileno()) != _identity(path):
                    waited = True
                    continue
            try:
                yield waited
            finally:
                with _disk(path):
                    path.unlink(missing_ok=True)
            return
