"""Files that appear complete or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import EffconvError


class OutputError(EffconvError):
    """An output that cannot be written."""


@contextlib.contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Temporary files beside `paths` to write into; they take the paths' places when all are complete.

    Raises OutputError when something cannot be written; then what was at `paths` is untouched.
    """
    temporary: list[Path] = []
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(handle)
            temporary.append(Path(name))
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        for source, path in zip(temporary, paths, strict=True):
            if path.is_dir():
                raise OutputError(f"{path}: cannot be written (it is a directory); choose another output")
            source.chmod(0o666 & ~mask)  # mkstemp makes files private; these are ordinary output
        for source, path in zip(temporary, paths, strict=True):
            source.replace(path)
    except OSError as error:
        raise OutputError(
            f"{paths[0]}: cannot be written ({error.strerror or error}); choose another output"
        ) from error
    finally:
        for source in temporary:
            source.unlink(missing_ok=True)
