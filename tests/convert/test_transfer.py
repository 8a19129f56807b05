"""Receiving a file over as many requests as it takes: cuts, ranges, changed files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from effconv.convert.download import DownloadError, fetch
from loopback import (
    BODY,
    CUT,
    NEW_BODY,
    Server,
    chunked,
    cut_and_give_up,
    cut_short,
    digest_of,
    names_in,
    part_of,
    partial,
    serve,
    status,
)

pytestmark = pytest.mark.usefixtures("impatient")


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


@pytest.mark.parametrize(("size", "asked"), [(len(BODY), f"bytes={CUT}-"), (None, None)])
def test_cut_in_a_chunked_answer_resumes_where_the_size_is_known(
    server: Server, target: Path, size: int | None, asked: str | None
) -> None:
    server.script = [chunked(BODY[:CUT], finished=False)]
    fetch(server.url, target, size=size)
    assert server.requests[1].get("Range") == asked
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
    with pytest.raises(DownloadError, match=re.escape(f"goes on after the 0.4 MB that {part_of(target)} keeps")):
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
    assert names_in(target) == {"model.bin.part", "model.bin.part.json"}
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
    assert server.requests == []
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
    ["", "{", "[1, 2]", "[1, 2, 3]", "null", "{}", '{"url": 1, "validator": 2, "total": 3}', "\0\xff"],
)
def test_damaged_sidecar_starts_over(server: Server, target: Path, sidecar: str) -> None:
    cut_and_give_up(server, target)
    part_of(target).with_suffix(".part.json").write_text(sidecar, encoding="latin-1")
    fetch(server.url, target)
    assert "Range" not in server.requests[0]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("place", "value"), [(0, "http://127.0.0.1/other"), (1, "many"), (1, CUT - 1), (2, "a\r\nX: b"), (2, 'W/"first"')]
)
def test_hostile_sidecar_starts_over(server: Server, target: Path, place: int, value: object) -> None:
    cut_and_give_up(server, target)
    sidecar = part_of(target).with_suffix(".part.json")
    record = json.loads(sidecar.read_text())
    record[place] = value
    sidecar.write_text(json.dumps(record))
    fetch(server.url, target)
    assert "Range" not in server.requests[0]
    assert target.read_bytes() == BODY


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
    with pytest.raises(DownloadError, match="status 206, expected 200"):
        fetch(server.url, target)
    assert len(server.requests) == 1
    assert names_in(target) == set()
