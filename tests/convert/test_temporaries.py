"""Files that a killed process leaves beside an output: the next run removes those, and no others."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from effconv.convert import temporaries
from effconv.convert.output import OutputError, replacing, replacing_folder, require_folder

# Writes half of its argument, says so, and waits to be killed; or converts the model in its place, as a user would.
HALF = """
import sys, time
from pathlib import Path
from effconv.convert.output import replacing
with replacing(*map(Path, sys.argv[1:])) as files:
    for file in files:
        file.write_bytes(b"half")
    print("half", flush=True)
    time.sleep(60)
"""
HALF_FOLDER = """
import re, sys, time
from pathlib import Path
from effconv.convert.output import replacing_folder
with replacing_folder(Path(sys.argv[1]), re.compile("sign")) as folder:
    (folder / "sign").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""
SIGN = re.compile("sign")
TINY = Path(__file__).parent.parent / "golden" / "tiny-lite"


@pytest.fixture(autouse=True)
def another_process() -> Iterator[None]:
    """Each test is a new process, as far as what it knows of folders goes."""
    temporaries._left_in.cache_clear()
    yield
    temporaries._left_in.cache_clear()


def begin(*paths: Path, program: str = HALF) -> subprocess.Popen[str]:
    """A process that is in the middle of writing `paths`."""
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, paths)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_the_same_command_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    output = tmp_path / "x.safetensors"
    kill(begin(output, tmp_path / "x.manifest.json"))
    assert len(hidden(tmp_path)) == 2
    words = ("tf2torch", "--model", TINY / "config.json", "--ckpt", TINY, "-o", output)
    subprocess.run([sys.executable, "-m", "effconv", *map(str, words)], check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.manifest.json", "x.safetensors"]


def test_files_of_the_living_and_of_the_user_stay(tmp_path: Path) -> None:
    output, process = tmp_path / "x.json", begin(tmp_path / "x.json")
    kill(begin(tmp_path / "other.json"))
    mine = {".x.json.backup", ".x.json.effconv", ".x.json.effconv-1-abcdefgh", ".x.json.swp", "x.json.effconv-x"}
    for name in mine:
        (tmp_path / name).write_text("the user's")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    try:
        with replacing(output) as (file,):
            file.write_text("whole")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before | {output: b"whole"}
    finally:
        kill(process)


@pytest.mark.parametrize("reason", ["another machine's", "locked", "a link", "alive"])
def test_what_may_be_in_use_stays(reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reason by itself, beside a temporary file that is removed where there is none."""
    kill(begin(tmp_path / "x.json"))
    (left,) = (tmp_path / name for name in hidden(tmp_path))
    handle = os.open(left, os.O_RDONLY)
    if reason == "another machine's":
        monkeypatch.setattr(temporaries, "_machine", lambda: "abcdef")
    elif reason == "locked":
        temporaries._lock(handle)
    elif reason == "a link":
        left.rename(tmp_path / "theirs")
        left.symlink_to(tmp_path / "theirs")
    else:
        left = left.rename(tmp_path / f".x.json.effconv-{temporaries._machine()}-{os.getppid()}-abcdefgh")
    with replacing(tmp_path / "x.json") as (file,):
        file.touch()
    assert hidden(tmp_path) == [left.name]
    os.close(handle)


def test_a_number_that_was_another_process_is_no_reason_to_keep(tmp_path: Path) -> None:
    """As in containers, where every command may be process 1."""
    left = tmp_path / f".x.json.effconv-{temporaries._machine()}-{os.getpid()}-abcdefgh"
    left.touch()
    with replacing(tmp_path / "x.json") as (file,):
        file.touch()
    assert hidden(tmp_path) == []


def test_a_folder_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(folder) or scandir(folder))
    for number in range(5):
        with replacing(tmp_path / f"{number}.jpg") as (file,):
            file.touch()
    assert looked == [tmp_path]


def write_folder(folder: Path, content: str) -> None:
    with replacing_folder(folder, SIGN) as written:
        (written / "sign").write_text(content)


def test_a_folder_that_a_killed_process_left_is_removed_and_one_of_the_living_stays(tmp_path: Path) -> None:
    kill(begin(tmp_path / "x", program=HALF_FOLDER))
    living = begin(tmp_path / "x", program=HALF_FOLDER)
    try:
        write_folder(tmp_path / "x", "whole")
        assert len(hidden(tmp_path)) == 2  # the new one, and where the former one goes
    finally:
        kill(living)
    assert (tmp_path / "x" / "sign").read_text() == "whole"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "above" / "x"
    write_folder(output, "first")
    assert output.stat().st_mode & 0o777 == output.parent.stat().st_mode & 0o777
    with pytest.raises(ValueError, match="in the middle"), replacing_folder(output, SIGN) as written:  # noqa: PT012
        (written / "sign").write_text("half")
        raise ValueError("in the middle")
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name.startswith(".") and target == output:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refused)
        with pytest.raises(OutputError, match=r"x: cannot be written \(Permission denied\)"):
            write_folder(output, "second")
    assert [(output / "sign").read_text(), os.listdir(output.parent)] == ["first", ["x"]]
    write_folder(output, "second")
    (output / "sign").rename(output / "other")
    with pytest.raises(OutputError, match="it has another file, other"):
        write_folder(output, "third")
    assert [(output / "other").read_text(), os.listdir(output.parent)] == ["second", ["x"]]


def test_what_was_there_before_is_put_back_where_a_process_was_killed_between(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", "first")
    left = tmp_path / f".x.effconv-{temporaries._machine()}-999999999-abcdefgh"
    left.mkdir()
    (tmp_path / "x").rename(left / "former")
    temporaries._left_in.cache_clear()  # as in the next process
    with replacing_folder(tmp_path / "x", SIGN) as written:
        assert (tmp_path / "x" / "sign").read_text() == "first"
        (written / "sign").write_text("second")
    assert (tmp_path / "x" / "sign").read_text() == "second"
    assert hidden(tmp_path) == []


def test_a_folder_is_not_taken_from_under_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), Path("/")):
        with pytest.raises(OutputError, match="a mount point, or holds the current folder"):
            require_folder(folder, SIGN)
