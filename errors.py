"""The errors effconv raises on purpose: each names the thing, what was expected and found, and the next step."""

from collections.abc import Mapping, Sequence

INTERRUPTED_STATUS = 130  # of a process that Ctrl-C ended: 128 + SIGINT, as shells count
NAMES_SHOWN = 5  # of a list in a message


class EffconvError(Exception):
    """Base of every error effconv raises about its input; the command line prints it and exits with `exit_status`."""

    exit_status = 2
    lists: Mapping[str, Sequence[str]] = {}  # whole, by what they are of, where the message may have the first names
    # What to give otherwise, by the parameter's name, with a value that would do or None; the command line, which alone
    # knows its options, writes them behind the message.
    parameters: Mapping[str, str | bool | None] = {}

    def __init__(self, *arguments: object, parameters: Mapping[str, str | bool | None] | None = None):
        super().__init__(*arguments)
        if parameters:
            self.parameters = parameters


class CheckpointError(EffconvError):
    """A checkpoint that is damaged, incomplete, hostile, or of a kind effconv does not read."""


class ImageError(EffconvError):
    """An image file that is damaged, hostile, or of a kind that cannot be decoded exactly as TensorFlow decodes it."""


def first_names(names: Sequence[str]) -> str:
    """The first few of `names` for a message, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
