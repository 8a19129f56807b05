"""One file on its way over HTTP: into `<destination>.part`, resumed by ranges, over as many requests as it takes."""

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
from typing import IO, NamedTuple, Protocol, TypeGuard
from urllib.parse import urlsplit

from ..errors import EffconvError

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
        require_http(newurl)
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


class Transfer:
    """One file on its way. `size` in bytes is what it must have, `timeout` in seconds bounds each wait."""

    def __init__(self, url: str, destination: Path, size: int | None, report: Progress, timeout: float):
        self.url = url
        self.part = beside(destination, ".part")
        self.sidecar = beside(destination, ".part.json")
        self.size = size
        self.report = report
        self.timeout = timeout
        self.opener = _web_opener()
        self.restarted = False

    def run(self, attempts: int) -> None:
        """Receive the rest of the file. Raises DownloadError after `attempts` failures in a row without new bytes."""
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
        """Throw away what was received, so that the next call starts from zero."""
        with on_disk(self.part):
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
        with on_disk(self.part):
            file = open(self.part, "ab")  # noqa: SIM115  (opening and closing fail as the disk does, reading does not)
        try:
            for chunk in _chunks(response):
                if total is not None and done + len(chunk) > total:
                    self.discard()
                    raise DownloadError(
                        f"{self.url}: more bytes came than the {total} expected; check the URL, then run again"
                    )
                with on_disk(self.part):
                    file.write(chunk)
                done += len(chunk)
                self.report(done, total)
        finally:
            with on_disk(self.part):
                file.close()
        if total is not None and done < total:
            raise _CutError(f"the connection ended at {done} of {total} bytes")

    def _begin(self, headers: Message, total: int | None) -> None:
        validator = _validator(headers)
        self.discard()
        if validator is not None:
            record = _Record(self.url, validator, total)
            with on_disk(self.sidecar):
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
        with on_disk(self.part):
            try:
                return self.part.stat().st_size
            except FileNotFoundError:
                return 0

    def _record(self) -> _Record | None:
        """The sidecar, if it explains the part file; anything else means starting from zero, which is always right."""
        with on_disk(self.sidecar):
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


def _validator(headers: Message) -> str | None:
    return next((value for name in ("ETag", "Last-Modified") if _is_strong(value := headers.get(name))), None)


def _is_strong(validator: object) -> TypeGuard[str]:
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
        raise DownloadError(f"{path}: not writable or readable ({reason}); free space or change folder") from error
