"""A web server on this machine with every fault a server or a network can have, and fixtures around it."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from effconv.convert import transfer
from effconv.convert.download import DownloadError, fetch

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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.bin"


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def names_in(target: Path) -> set[str]:
    """What lies beside `target`, but for its lock, which stays."""
    return {path.name for path in target.parent.iterdir()} - {target.name + ".lock"}


def cut_and_give_up(server: Server, target: Path) -> None:
    """Leave what a first call leaves that was cut at CUT bytes and then found the server down."""
    server.script = [cut_short, status(500)]
    with pytest.raises(DownloadError, match="500"):
        fetch(server.url, target, attempts=1)
    assert part_of(target).stat().st_size == CUT
    server.requests.clear()
    server.sent.clear()
