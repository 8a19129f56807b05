"""Downloads: verified before they appear, never half there, one at a time."""

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from effconv.convert import download, transfer
from effconv.convert.download import DownloadError, fetch
from effconv.errors import CheckpointError
from loopback import (
    BODY,
    CUT,
    NEW_BODY,
    Handler,
    Server,
    chunked,
    cut_and_give_up,
    cut_short,
    digest_of,
    honest,
    names_in,
    part_of,
    status,
)

pytestmark = pytest.mark.usefixtures("impatient")


def test_plain(server: Server, target: Path) -> None:
    reports: list[tuple[int, int | None]] = []
    found = fetch(
        server.url,
        target,
        size=len(BODY),
        sha256=digest_of(BODY).upper(),
        report=lambda done, total: reports.append((done, total)),
    )
    assert found == digest_of(BODY)
    assert target.read_bytes() == BODY
    assert names_in(target) == {"model.bin"}
    assert reports[0] == (0, len(BODY))
    assert reports[-1] == (len(BODY), len(BODY))
    assert len(reports) >= 4
    assert reports == sorted(reports)
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert "Range" not in server.requests[0]


def test_wrong_digest(server: Server, target: Path) -> None:
    wanted = digest_of(NEW_BODY)
    with pytest.raises(DownloadError, match=rf"{re.escape(server.url)}.*{wanted}.*{digest_of(BODY)}"):
        fetch(server.url, target, sha256=wanted)
    assert names_in(target) == set()


def test_digest_covers_the_bytes_kept_from_before(server: Server, target: Path) -> None:
    cut_and_give_up(server, target)
    with open(part_of(target), "rb+") as part:
        part.write(b"rotten")
    with pytest.raises(DownloadError, match="sha256"):
        fetch(server.url, target, sha256=digest_of(BODY))
    assert names_in(target) == set()
    fetch(server.url, target, sha256=digest_of(BODY))
    assert target.read_bytes() == BODY


def test_check_sees_the_whole_file_before_it_is_in_place(server: Server, target: Path) -> None:
    seen: list[bytes] = []

    def check(path: Path) -> None:
        assert not target.exists()
        seen.append(path.read_bytes())

    fetch(server.url, target, check=check)
    assert seen == [BODY]


def test_file_is_on_disk_before_it_is_in_place(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        assert not target.exists()
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(download.os, "fsync", fsync)
    fetch(server.url, target)
    assert synced == [len(BODY)]


def test_check_refuses(server: Server, target: Path) -> None:
    def check(path: Path) -> None:
        raise CheckpointError("not a checkpoint")

    with pytest.raises(CheckpointError, match="not a checkpoint"):
        fetch(server.url, target, check=check)
    assert names_in(target) == set()


@pytest.mark.parametrize("fault", [status(404), status(500), cut_short, chunked(NEW_BODY), honest])
def test_existing_file_survives_every_failure(server: Server, target: Path, fault: Callable[[Handler], None]) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    server.ranges = False
    server.otherwise = fault
    with pytest.raises(DownloadError):
        fetch(server.url, target, sha256=digest_of(b"something else"), attempts=2)
    assert target.read_bytes() == b"old"


def test_existing_file_is_replaced_by_a_new_download(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    fetch(server.url, target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "model.bin", "http://[::1"])
def test_only_web_addresses(target: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="URL"):
        fetch(url, target)
    assert not target.parent.exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:many/x", "http://127.0.0.1/\u2603", "http:///x"])
def test_unusable_web_addresses(target: Path, url: str) -> None:
    with pytest.raises(DownloadError, match=re.escape(repr(url)) if "///" not in url else "no host given"):
        fetch(url, target, attempts=1)


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_redirect_out_of_the_web_is_refused(server: Server, target: Path, location: str) -> None:
    server.otherwise = lambda handler: handler.start(302, Location=location, Content_Length=0)
    with pytest.raises(DownloadError, match=re.escape(location)):
        fetch(server.url, target)
    assert len(server.requests) == 1
    assert names_in(target) == set()


def test_redirect_keeps_the_range(server: Server, target: Path) -> None:
    cut_and_give_up(server, target)
    server.script = [lambda handler: handler.start(302, Location="/elsewhere", Content_Length=0)]
    fetch(server.url, target)
    assert server.sent == [0, len(BODY) - CUT]
    assert target.read_bytes() == BODY


def test_parent_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"in the way")
    with pytest.raises(DownloadError, match="not writable"):
        fetch(server.url, tmp_path / "cache" / "model.bin")
    assert server.requests == []


def test_destination_is_a_folder(server: Server, target: Path) -> None:
    target.mkdir(parents=True)
    with pytest.raises(DownloadError, match="is a folder"):
        fetch(server.url, target)
    assert server.requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the always full device of Linux")
def test_full_disk(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_a_full_disk(path: Path, mode: str) -> object:
        return open("/dev/full", "wb") if mode == "ab" else open(path, mode)

    monkeypatch.setattr(transfer, "open", on_a_full_disk, raising=False)
    with pytest.raises(DownloadError, match=r"No space left.*free space"):
        fetch(server.url, target)
    assert len(server.requests) == 1
    assert not target.exists()


class Pair:
    """Two callers of one destination: the first is held by the server until the second waits for the lock."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch):
        self.server = server
        self.first_asked, self.second_waits = threading.Event(), threading.Event()
        self.results: dict[str, str | DownloadError] = {}
        acquire, asked = filelock.FileLock.acquire, list[object]()

        def watched(lock: filelock.FileLock, *arguments: object, **options: object) -> object:
            asked.append(lock)
            if len(asked) == 2:
                self.second_waits.set()
            return acquire(lock, *arguments, **options)

        monkeypatch.setattr(filelock.FileLock, "acquire", watched)

    def hold(self, answer: Callable[[Handler], None]) -> Callable[[Handler], None]:
        def held(handler: Handler) -> None:
            self.first_asked.set()
            assert self.second_waits.wait(5)
            answer(handler)

        return held

    def run(self, first: Callable[[], str], second: Callable[[], str]) -> None:
        def keep(name: str, call: Callable[[], str]) -> None:
            try:
                self.results[name] = call()
            except DownloadError as error:
                self.results[name] = error

        threads = [threading.Thread(target=keep, args=("first", first))]
        threads[0].start()
        assert self.first_asked.wait(5)
        threads.append(threading.Thread(target=keep, args=("second", second)))
        threads[1].start()
        for thread in threads:
            thread.join(10)


@pytest.fixture
def pair(server: Server, monkeypatch: pytest.MonkeyPatch) -> Pair:
    return Pair(server, monkeypatch)


def test_second_caller_takes_the_file_of_the_first(server: Server, target: Path, pair: Pair) -> None:
    server.script = [pair.hold(honest)]
    pair.run(lambda: fetch(server.url, target), lambda: fetch(server.url, target, sha256=digest_of(BODY)))
    assert pair.results == {"first": digest_of(BODY), "second": digest_of(BODY)}
    assert len(server.requests) == 1
    assert names_in(target) == {"model.bin"}


def test_second_caller_wants_another_file(server: Server, target: Path, pair: Pair) -> None:
    server.script = [pair.hold(honest), chunked(NEW_BODY)]
    pair.run(lambda: fetch(server.url, target), lambda: fetch(server.url, target, sha256=digest_of(NEW_BODY)))
    assert pair.results == {"first": digest_of(BODY), "second": digest_of(NEW_BODY)}
    assert target.read_bytes() == NEW_BODY
    assert names_in(target) == {"model.bin"}


def test_second_caller_does_not_take_an_old_file_when_the_first_failed(
    server: Server, target: Path, pair: Pair
) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    server.script = [pair.hold(status(404))]
    pair.run(lambda: fetch(server.url, target), lambda: fetch(server.url, target))
    assert isinstance(pair.results["first"], DownloadError)
    assert pair.results["second"] == digest_of(BODY)
    assert target.read_bytes() == BODY


def test_many_callers_at_once(server: Server, target: Path) -> None:
    server.script = [cut_short, status(503)]
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(server.url, target))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [digest_of(BODY)] * 8
    assert target.read_bytes() == BODY
    assert names_in(target) == {"model.bin"}
