"""What is kept of a run that does not come to its end, and how it is gone on with."""

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ...errors import EffconvError
from ..distributed import again


class Place(NamedTuple):
    """Where finished work is: beside the run's output, in a file or folder named as it is with `ending`.

    Work of a run that has no output is held in memory, and has a place only when it is cut off: beside `default` in the
    working folder, or a numbered one where that is taken.
    """

    output: Path | None
    option: str  # that names the output on the command line
    default: Path
    ending: str

    def beside(self, output: Path) -> Path:
        """Where finished work is, of a run with this output."""
        return output.with_name(output.name + self.ending)

    def free(self) -> Path:
        """The default output, numbered where it is taken."""
        output, number = self.default, 1
        while output.exists() or self.beside(output).exists():
            number += 1
            output = self.default.with_stem(f"{self.default.stem}-{number}")
        return output


@contextlib.contextmanager
def kept(place: Place, command: str, keep: Callable[[Path | None], str]) -> Iterator[None]:
    """Gives whatever ends the block before its end, Ctrl-C too, a note: what is kept, and the command that goes on.

    `keep(output)` writes what is finished beside that output, or nothing where it is None because it is there already,
    and returns in words what there is; nothing where there is nothing, which is not noted.
    """
    try:
        yield
    except BaseException as error:
        if note := _note(place, command, keep):
            error.add_note(note)
        raise


def _note(place: Place, command: str, keep: Callable[[Path | None], str]) -> str:
    output = place.output or place.free()
    try:
        there = keep(None if place.output else output)
    except (OSError, EffconvError) as error:
        return f"what is finished cannot be kept in {place.beside(output)} ({error})"
    if not there:
        return ""
    named = command if place.output else f"{command} {shlex.join([place.option, str(output)])}"
    return f"{there} are kept in {place.beside(output)}; go on with: {again(named, '--resume')}"
