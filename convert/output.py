"""Files, and folders, that appear complete or not at all."""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import EffconvError
from .temporaries import FORMER, temporary, temporary_folder

# The umask is read by changing it, which is the whole process's: a second thread would read, and leave, the change.
_umask = threading.Lock()


class OutputError(EffconvError):
    """An output that cannot be written."""


def require_place(path: Path, *, folder: bool = False) -> None:
    """Raises OutputError when a file, or a folder, cannot be written to `path`, as far as can be told before."""
    if path.exists() and path.is_dir() is not folder:
        reason = f"it is a {'file' if folder else 'directory'}"
    elif path.exists() and not folder and not path.is_file():
        reason = "it is a device or a pipe"  # whose place a file would take
    else:
        above = next((each for each in path.absolute().parents if each.exists()), Path("/"))
        if not above.is_dir():
            reason = f"{above} is a file"
        elif not os.access(above, os.W_OK | os.X_OK):
            reason = f"no permission to write in {above}"
        else:
            return
    raise OutputError(f"{path}: cannot be written ({reason}); choose another output")


@contextlib.contextmanager
def replacing(*paths: Path, errors: tuple[type[Exception], ...] = ()) -> Iterator[list[Path]]:
    """Temporary files beside `paths` to write into; they take the paths' places when all are complete.

    Those that killed processes left there are removed. `errors` are what a writer that is not Python's own raises,
    beside OSError, when it cannot write.
    Raises OutputError when something cannot be written; then what was at `paths` is untouched.
    """
    refusals: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        with contextlib.ExitStack() as made:
            sources = []
            for path in paths:
                with _umask:
                    path.parent.mkdir(parents=True, exist_ok=True)
                sources.append(made.enter_context(temporary(path)))
            yield sources
            with _umask:
                mask = os.umask(0)
                os.umask(mask)
            for source, path in zip(sources, paths, strict=True):
                if path.is_dir():
                    raise OutputError(f"{path}: cannot be written (it is a directory); choose another output")
                source.chmod(0o666 & ~mask)  # temporary files are private; these are ordinary output
            for source, path in zip(sources, paths, strict=True):
                source.replace(path)
    except refusals as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n", 1)[0]
        raise OutputError(f"{paths[0]}: cannot be written ({reason}); choose another output") from error


def require_folder(folder: Path, own: re.Pattern[str]) -> None:
    """Raises OutputError for a folder that cannot be replaced: one that has a file whose path in it is not `own`."""
    require_place(folder, folder=True)
    place = folder.resolve()
    if os.path.ismount(place) or Path.cwd().is_relative_to(place):
        raise OutputError(
            f"{folder}: cannot be replaced (it is a mount point, or holds the current folder); name a folder in it"
        )
    files = (each.relative_to(place).as_posix() for each in sorted(place.rglob("*")) if not each.is_dir())
    other = next((name for name in files if not own.fullmatch(name)), None)
    if other is not None:
        raise OutputError(f"{folder}: cannot be written (it has another file, {other}); choose another output")


@contextlib.contextmanager
def replacing_folder(folder: Path, own: re.Pattern[str], errors: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """A temporary folder to write into, which takes the place of `folder` when it is complete.

    What is there before is removed; it must not have a file whose path in it is not `own`. `errors` as in `replacing`.
    Raises OutputError when something cannot be written; then what was at `folder` is untouched.
    """
    refusals: tuple[type[Exception], ...] = (OSError, *errors)
    place = folder.resolve()
    require_folder(folder, own)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(place) as source, temporary_folder(place) as aside:
            yield source
            with _umask:
                mask = os.umask(0)
                os.umask(mask)
            source.chmod(0o777 & ~mask)
            require_folder(folder, own)
            former = aside / FORMER
            if place.exists():
                place.rename(former)
            try:
                source.rename(place)
            except BaseException:
                if former.exists():
                    former.rename(place)
                raise
    except refusals as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n", 1)[0]
        raise OutputError(f"{folder}: cannot be written ({reason}); choose another output") from error
