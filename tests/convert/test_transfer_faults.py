"""Servers that refuse, fail, keep silent or lie about what they send."""

import re
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from effconv.convert import transfer
from effconv.convert.download import DownloadError, fetch
from loopback import (
    BODY,
    CUT,
    Handler,
    Server,
    chunked,
    digest_of,
    names_in,
    serve,
    status,
)

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 304])
def test_refusals_are_final(server: Server, target: Path, code: int) -> None:
    server.otherwise = status(code)
    with pytest.raises(DownloadError, match=rf"{re.escape(server.url)}.*{code}.*check the URL"):
        fetch(server.url, target)
    assert len(server.requests) == 1
    assert names_in(target) == set()


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_server_errors_are_retried(server: Server, target: Path, code: int) -> None:
    server.script = [status(code)]
    fetch(server.url, target)
    assert target.read_bytes() == BODY
    server.otherwise = status(code)
    server.requests.clear()
    with pytest.raises(DownloadError, match=rf"{code}.*\nRun the command again"):
        fetch(server.url, target, attempts=3)
    assert len(server.requests) == 3
    assert target.read_bytes() == BODY


def test_pauses_grow(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 1.0)
    monkeypatch.setattr(transfer.time, "sleep", pauses.append)
    server.otherwise = status(500)
    with pytest.raises(DownloadError):
        fetch(server.url, target, attempts=6)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_nobody_listens(target: Path) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(DownloadError, match=r"no answer.*\nRun the command again"):
        fetch(url, target, attempts=2)


def test_a_refused_certificate_is_final_and_says_what_to_check(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Refusing:
        def open(self, request: urllib.request.Request, timeout: float) -> None:
            asked.append(request.full_url)
            raise urllib.error.URLError(ssl.SSLCertVerificationError("certificate has expired"))

    monkeypatch.setattr(urllib.request, "build_opener", lambda *handlers: Refusing())
    with pytest.raises(DownloadError, match=r"certificate refused \(.*expired.*\); check clock and proxy"):
        fetch("https://host/file", target)
    assert len(asked) == 1


def test_silent_server_times_out_and_is_tried_again(server: Server, target: Path) -> None:
    done, too_late = threading.Event(), threading.Event()

    def stall(handler: Handler) -> None:
        serve(handler, CUT)
        if not done.wait(5):
            too_late.set()

    server.script = [stall]
    fetch(server.url, target, timeout=0.2)
    assert not too_late.is_set()
    done.set()
    assert server.requests[1]["Range"] == f"bytes={CUT}-"
    assert target.read_bytes() == BODY


def test_body_always_shorter_than_announced(server: Server, target: Path) -> None:
    def short(handler: Handler) -> None:
        serve_from = handler.offset() or 0
        handler.start(
            206 if serve_from else 200, Content_Length=9 - serve_from, Content_Range=f"bytes {serve_from}-8/9"
        )
        handler.body(b"12345"[serve_from:])
        handler.close_connection = True

    server.otherwise = short
    with pytest.raises(DownloadError, match="ended at 5 of 9 bytes"):
        fetch(server.url, target, attempts=2)
    assert not target.exists()


def test_bytes_after_the_announced_length_are_not_the_file(server: Server, target: Path) -> None:
    def long(handler: Handler) -> None:
        handler.start(200, Content_Length=len(BODY))
        handler.body(BODY + b"surplus")
        handler.close_connection = True

    server.otherwise = long
    assert fetch(server.url, target) == digest_of(BODY)
    assert target.read_bytes() == BODY
    with pytest.raises(DownloadError, match="sha256"):
        fetch(server.url, target, sha256=digest_of(BODY + b"surplus"))


def test_more_bytes_than_expected(server: Server, target: Path) -> None:
    largest: list[int] = []
    server.otherwise = chunked(BODY)
    with pytest.raises(DownloadError, match="more bytes came than the 250000 expected"):
        fetch(server.url, target, size=250_000, report=lambda done, total: largest.append(done))
    assert max(largest) <= 250_000
    assert len(server.requests) == 1
    assert names_in(target) == set()


def test_chunked_answer_shorter_than_expected(server: Server, target: Path) -> None:
    server.otherwise = chunked(BODY)
    with pytest.raises(DownloadError, match=f"ended at {len(BODY)} of {len(BODY) + 1} bytes"):
        fetch(server.url, target, size=len(BODY) + 1, attempts=1)
    assert not target.exists()


def test_chunked_answer_without_a_length(server: Server, target: Path) -> None:
    server.otherwise = chunked(BODY)
    reports: list[tuple[int, int | None]] = []
    fetch(server.url, target, report=lambda done, total: reports.append((done, total)))
    assert reports[0] == (0, None)
    assert reports[-1] == (len(BODY), len(BODY))
    assert target.read_bytes() == BODY


def test_announced_size_differs(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match=f"announces {len(BODY)} bytes, expected 77"):
        fetch(server.url, target, size=77)
    assert len(server.requests) == 1
    assert names_in(target) == set()


def test_compressed_answer_is_refused(server: Server, target: Path) -> None:
    server.otherwise = lambda handler: handler.start(200, Content_Encoding="gzip", Content_Length=0)
    with pytest.raises(DownloadError, match="'gzip'"):
        fetch(server.url, target)
    assert names_in(target) == set()


def test_other_success_statuses_are_refused(server: Server, target: Path) -> None:
    server.otherwise = status(204)
    with pytest.raises(DownloadError, match="204, expected 200 or 206"):
        fetch(server.url, target)
    assert names_in(target) == set()
