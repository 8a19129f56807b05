"""Temporary files and folders beside outputs, and those that processes which were killed have left there.

A temporary file's name says for which output it is, on which machine, and by which process; while that process lives it
holds a lock on the file. One is removed when it is of this machine, its process is gone, and nobody holds its lock: a
process may be invisible here and live (in another container), and a lock may not be seen from another machine.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

FORMER = "former"  # in a temporary folder: what was at the output's place before
HAS_LOCKS = importlib.util.find_spec("fcntl") is not None  # elsewhere nothing is locked, and nothing removed
NAME = re.compile(r"\.(?P<output>.+)\.effconv-(?P<machine>[0-9a-f]{6})-(?P<process>\d+)-[a-z0-9_]{8}", re.DOTALL)


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, gone after the block if it is still there. Raises OSError where none can be made.

    What killed processes left of their own for `path` is removed first.
    """
    for left in _left_in(path.parent.absolute()).pop(path.name, ()):
        _remove(left)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            _lock(handle)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, gone after the block if it is still there, as `temporary` has files."""
    for left in _left_in(path.parent.absolute()).pop(path.name, ()):
        _remove(left)
    name = tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path))
    with contextlib.ExitStack() as held:
        held.callback(shutil.rmtree, name, ignore_errors=True)
        if HAS_LOCKS:
            handle = os.open(name, os.O_RDONLY)
            held.callback(os.close, handle)
            with contextlib.suppress(OSError):
                _lock(handle)
        yield Path(name)


def _prefix(path: Path) -> str:
    return f".{path.name}.effconv-{_machine()}-{os.getpid()}-"


@functools.cache
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


@functools.cache
def _left_in(folder: Path) -> dict[str, list[Path]]:
    """{output: what processes that are gone left for it}, as the folder is when this process first writes there.

    Looked at once: a folder may get thousands of files from one command.
    """
    found: dict[str, list[Path]] = {}
    if not HAS_LOCKS:
        return found
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # it may be for writing alone
        for entry in entries:
            match = NAME.fullmatch(entry.name)
            if not match or match["machine"] != _machine() or _lives(int(match["process"])):
                continue
            if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
                found.setdefault(match["output"], []).append(Path(entry.path))
    return found


def _lives(process: int) -> bool:
    """Whether there is such a process; this one's number may have been another's before, of which its lock tells."""
    try:
        if process != os.getpid():
            os.kill(process, 0)
            return True
    except (ProcessLookupError, OverflowError):
        pass
    except PermissionError:
        return True
    return False


def _remove(path: Path) -> None:
    """Remove a file or folder unless somebody holds its lock, or it is not ours to remove."""
    with contextlib.suppress(OSError):
        handle = os.open(path, (os.O_RDONLY if path.is_dir() else os.O_RDWR) | os.O_NOFOLLOW)
        try:
            _lock(handle)
            output = path.with_name(NAME.fullmatch(path.name)["output"])  # type: ignore[index]  # so it was found
            if (path / FORMER).is_dir() and not output.exists():
                (path / FORMER).rename(output)  # killed before the new one took its place
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        finally:
            os.close(handle)


def _lock(handle: int) -> None:
    """Raises OSError where another has it."""
    if HAS_LOCKS:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
