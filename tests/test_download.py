"""Downloads against a real HTTP server on this machine, with every fault a server or a network can have."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from effconv.convert import download, transfer
from effconv.convert.download import DownloadError, fetch
from effconv.errors import CheckpointError

BODY = bytes(range(256)) * 4099  # 1 MB, and not a multiple of the chunk size
NEW_BODY = BODY[::-1] + b"new"
CUT = 400_001


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers))
        self.server.sent.append(0)
        answer = self.server.script.pop(0) if self.server.script else self.server.otherwise
        try:
            answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def start(self, status: int, **fields: object) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        for name, value in (("ETag", self.server.etag), ("Last-Modified", self.server.last_modified)):
            if value is not None and name not in fields:
                self.send_header(name, value)
        self.end_headers()

    def body(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.sent[-1] += len(data)

    def offset(self) -> int | None:
        asked = self.headers["Range"]
        if asked is None or not self.server.ranges:
            return None
        if self.headers["If-Range"] not in (None, self.server.etag, self.server.last_modified):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = BODY
        self.etag: str | None = '"first"'
        self.last_modified: str | None = None
        self.ranges = True
        self.script: list[Callable[[Handler], None]] = []
        self.otherwise: Callable[[Handler], None] = honest
        self.requests: list[dict[str, str]] = []
        self.sent: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/model.bin"


def serve(handler: Handler, cut: int | None = None) -> None:
    content, offset = handler.server.content, handler.offset()
    if offset is None:
        handler.start(200, Content_Length=len(content))
    elif offset >= len(content):
        handler.start(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        return
    else:
        last = len(content) - 1
        handler.start(206, Content_Length=len(content) - offset, Content_Range=f"bytes {offset}-{last}/{last + 1}")
    handler.body(content[offset or 0 :][:cut])
    handler.close_connection = True


def honest(handler: Handler) -> None:
    serve(handler)


def cut_short(handler: Handler) -> None:
    serve(handler, CUT)


def status(code: int) -> Callable[[Handler], None]:
    return lambda handler: handler.start(code, Content_Length=0)


def chunked(content: bytes, finished: bool = True) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.start(200, Transfer_Encoding="chunked")
        for at in range(0, len(content), 100_000):
            piece = content[at : at + 100_000]
            handler.body(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n" if finished else b"")
        handler.close_connection = True

    return answer


def partial(content_range: str, **fields: object) -> Callable[[Handler], None]:
    """A 206 whose body is as long as `content_range` says, so that nothing but that header can give a lie away."""
    claim = re.match(r"bytes (\d{1,9})-(\d{1,9})/", content_range)
    length = int(claim[2]) - int(claim[1]) + 1 if claim else len(BODY) - CUT

    def answer(handler: Handler) -> None:
        handler.start(206, **({"Content_Length": length, "Content_Range": content_range} | fields))
        handler.body((handler.server.content[CUT:] * 2)[:length])
        handler.close_connection = True

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.bin"


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def names_in(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


def cut_and_give_up(server: Server, target: Path) -> None:
    """Leave what a first call leaves that was cut at CUT bytes and then found the server down."""
    server.script = [cut_short, status(500)]
    with pytest.raises(DownloadError, match="500"):
        fetch(server.url, target, attempts=1)
    assert part_of(target).stat().st_size == CUT
    server.requests.clear()
    server.sent.clear()


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


def test_empty_file(server: Server, target: Path) -> None:
    server.content = b""
    assert fetch(server.url, target, size=0) == digest_of(b"")
    assert target.read_bytes() == b""


def test_cut_resumes_with_the_rest_only(server: Server, target: Path) -> None:
    server.script = [cut_short]
    reports: list[int] = []
    assert fetch(server.url, target, report=lambda done, total: reports.append(done)) == digest_of(BODY)
    assert server.requests[1]["Range"] == f"bytes={CUT}-"
    assert server.requests[1]["If-Range"] == '"first"'
    assert server.sent == [CUT, len(BODY) - CUT]
    assert reports == sorted(reports)  # the second request starts at what is kept, not at zero
    assert target.read_bytes() == BODY


def test_cut_in_a_chunked_answer_resumes(server: Server, target: Path) -> None:
    server.script = [chunked(BODY[:CUT], finished=False)]
    fetch(server.url, target)
    assert server.requests[1]["Range"] == f"bytes={CUT}-"
    assert target.read_bytes() == BODY


def test_every_bit_of_progress_gives_all_attempts_back(server: Server, target: Path) -> None:
    server.otherwise = lambda handler: serve(handler, 50_000)
    fetch(server.url, target, attempts=1)
    assert len(server.requests) == -(-len(BODY) // 50_000)
    assert target.read_bytes() == BODY


def test_a_server_that_cannot_resume_and_always_cuts_ends(server: Server, target: Path) -> None:
    server.ranges = False
    server.script = [cut_short] * 20
    with pytest.raises(DownloadError, match=f"ended at {CUT} of {len(BODY)}"):
        fetch(server.url, target, attempts=3)
    assert len(server.requests) == 4  # one that brought something new, three that did not


def test_later_call_resumes(server: Server, target: Path) -> None:
    server.script = [cut_short, *[status(500)] * 3]
    with pytest.raises(DownloadError, match=re.escape(f"0.4 of 1.0 MB are kept in {part_of(target)}")):
        fetch(server.url, target, attempts=3)
    assert not target.exists()
    assert len(server.requests) == 4
    reports: list[tuple[int, int | None]] = []
    fetch(server.url, target, sha256=digest_of(BODY), report=lambda done, total: reports.append((done, total)))
    assert server.sent[4:] == [len(BODY) - CUT]
    assert reports[0] == (CUT, len(BODY))
    assert names_in(target) == {"model.bin"}


def test_killed_process_leaves_what_the_next_one_resumes(server: Server, target: Path) -> None:
    program = (
        "import os, sys, pathlib; from effconv.convert.download import fetch\n"
        "fetch(sys.argv[1], pathlib.Path(sys.argv[2]), report=lambda done, total: done > 300_000 and os._exit(9))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "no_proxy": "127.0.0.1"}
    killed = subprocess.run([sys.executable, "-c", program, server.url, str(target)], env=environment, check=False)
    assert killed.returncode == 9
    assert not target.exists()
    assert names_in(target) == {"model.bin.part", "model.bin.part.json", "model.bin.lock"}
    kept = part_of(target).stat().st_size
    assert kept > 200_000
    fetch(server.url, target)
    assert server.requests[1]["Range"] == f"bytes={kept}-"
    assert target.read_bytes() == BODY
    assert names_in(target) == {"model.bin"}


def test_last_modified_serves_where_the_etag_is_weak(server: Server, target: Path) -> None:
    server.etag, server.last_modified = 'W/"first"', "Tue, 01 Oct 2024 08:00:00 GMT"
    server.script = [cut_short]
    fetch(server.url, target)
    assert server.requests[1]["If-Range"] == server.last_modified
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("etag", ['W/"first"', None])
def test_no_strong_validator_starts_over(server: Server, target: Path, etag: str | None) -> None:
    server.etag = etag
    server.script = [cut_short]
    fetch(server.url, target)
    assert "Range" not in server.requests[1]
    assert "If-Range" not in server.requests[1]
    assert target.read_bytes() == BODY


def test_changed_file_starts_over(server: Server, target: Path) -> None:
    cut_and_give_up(server, target)
    server.content, server.etag = NEW_BODY, '"second"'
    assert fetch(server.url, target) == digest_of(NEW_BODY)
    assert server.requests[0]["If-Range"] == '"first"'
    assert target.read_bytes() == NEW_BODY


def test_changed_file_behind_a_server_deaf_to_if_range(server: Server, target: Path) -> None:
    cut_and_give_up(server, target)
    server.content, server.etag = BODY[::-1], '"second"'
    server.script = [partial(f"bytes {CUT}-{len(BODY) - 1}/{len(BODY)}")]
    fetch(server.url, target)
    assert target.read_bytes() == BODY[::-1]


def test_server_without_ranges(server: Server, target: Path) -> None:
    server.ranges = False
    server.script = [cut_short]
    fetch(server.url, target)
    assert "Range" in server.requests[1]
    assert target.read_bytes() == BODY


def test_other_url_starts_over(server: Server, target: Path) -> None:
    cut_and_give_up(server, target)
    server.content = NEW_BODY
    fetch(server.url + "?other", target)
    assert "Range" not in server.requests[0]
    assert target.read_bytes() == NEW_BODY


def test_complete_part_is_verified_not_downloaded_again(server: Server, target: Path) -> None:
    cut_and_give_up(server, target)
    part_of(target).write_bytes(BODY)
    assert fetch(server.url, target, sha256=digest_of(BODY)) == digest_of(BODY)
    assert server.sent == [0]
    assert target.read_bytes() == BODY


def test_complete_part_of_another_size_is_refused(server: Server, target: Path) -> None:
    cut_and_give_up(server, target)
    part_of(target).write_bytes(BODY)
    with pytest.raises(DownloadError, match=f"expected 77 bytes, got {len(BODY)}"):
        fetch(server.url, target, size=77)
    assert names_in(target) == set()


def test_416_for_an_incomplete_part_starts_over(server: Server, target: Path) -> None:
    cut_and_give_up(server, target)
    server.script = [status(416)]
    fetch(server.url, target)
    assert "Range" not in server.requests[1]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    "sidecar",
    ["", "{", "[1, 2]", "null", "{}", '{"url": 1, "validator": 2, "total": 3}', "\0\xff", '{"total": "many"}'],
)
def test_damaged_sidecar_starts_over(server: Server, target: Path, sidecar: str) -> None:
    cut_and_give_up(server, target)
    part_of(target).with_suffix(".part.json").write_text(sidecar, encoding="latin-1")
    fetch(server.url, target)
    assert "Range" not in server.requests[0]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    "change", [{"validator": "a\r\nX: b"}, {"validator": 'W/"first"'}, {"total": "many"}, {"total": CUT - 1}]
)
def test_hostile_sidecar_starts_over(server: Server, target: Path, change: dict[str, object]) -> None:
    cut_and_give_up(server, target)
    sidecar = part_of(target).with_suffix(".part.json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | change))
    fetch(server.url, target)
    assert "Range" not in server.requests[0]
    assert target.read_bytes() == BODY


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


HOSTILE_RANGES = [
    f"bytes 0-{len(BODY) - 1}/{len(BODY)}",
    f"bytes {CUT + 1}-{len(BODY) - 1}/{len(BODY)}",
    f"bytes {CUT}-{len(BODY) - 2}/{len(BODY)}",
    f"bytes {CUT}-{len(BODY)}/{len(BODY) + 1}",
    f"bytes {CUT}-{len(BODY) - 1}/*",
    f"bytes {CUT}-{'9' * 5000}/{'9' * 5000}",
    f"bytes -{CUT}-5/6",
    "",
]


@pytest.mark.parametrize("content_range", HOSTILE_RANGES)
def test_hostile_content_range(server: Server, target: Path, content_range: str) -> None:
    cut_and_give_up(server, target)
    server.script = [partial(content_range)]
    fetch(server.url, target)
    assert "Range" not in server.requests[1]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(("last", "length"), [(len(BODY) - 1, 5), (len(BODY) - 2, len(BODY) - CUT)])
def test_content_range_contradicts_content_length(server: Server, target: Path, last: int, length: int) -> None:
    cut_and_give_up(server, target)
    server.script = [partial(f"bytes {CUT}-{last}/{len(BODY)}", Content_Length=length)]
    fetch(server.url, target)
    assert "Range" not in server.requests[1]
    assert target.read_bytes() == BODY


def test_partial_answer_nobody_asked_for(server: Server, target: Path) -> None:
    server.otherwise = partial(f"bytes {CUT}-{len(BODY) - 1}/{len(BODY)}")
    with pytest.raises(DownloadError, match="unusable partial answer"):
        fetch(server.url, target)
    assert len(server.requests) == 2
    assert names_in(target) == set()


class Pair:
    """Two callers of one destination: the first is held by the server until the second waits for the lock."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch):
        self.server = server
        self.first_asked, self.second_waits = threading.Event(), threading.Event()
        self.results: dict[str, str | DownloadError] = {}
        flock = download.fcntl.flock

        def watched(file: object, operation: int) -> None:
            if operation == download.fcntl.LOCK_EX:
                self.second_waits.set()
            flock(file, operation)

        monkeypatch.setattr(download.fcntl, "flock", watched)

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
    if sys.platform == "win32":
        pytest.skip("no flock on Windows")
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


@pytest.mark.skipif(sys.platform == "win32", reason="no flock on Windows")
def test_lock_file_removed_by_its_last_holder_is_made_again(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = target.with_name("model.bin.lock")
    flock = download.fcntl.flock
    holders: list[str] = ["about to leave"]

    def overtaken(file: object, operation: int) -> None:
        if holders:
            holders.pop()
            lock.unlink()
        flock(file, operation)

    monkeypatch.setattr(download.fcntl, "flock", overtaken)
    locked: list[bool] = []
    fetch(server.url, target, check=lambda path: locked.append(lock.exists()))
    assert locked == [True]


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
