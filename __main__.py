"""The program `effconv`: an interruption ends it with a line or none, at whatever moment."""

import io
import os
import signal
import sys
from types import FrameType

from .errors import INTERRUPTED_STATUS
from .waiting import wait_briefly

IMPORTING = "<frozen importlib._bootstrap>"  # the file of the frames of an import
AGAIN_SECONDS = 0.005  # shorter than what any command does once it has imported all: its end would lose the signal


def run() -> None:
    """Run the command line. Before it begins and after it has ended, an interruption has nothing to clean up."""
    waits = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not so in the background of a script
    if waits:
        signal.signal(signal.SIGINT, _end)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it: names of files are of any bytes
    wait_briefly()  # in this process and those that it starts
    from .cli import main

    try:
        if waits:
            signal.signal(signal.SIGINT, _interrupt)
        main()
    finally:
        if waits:
            signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED_STATUS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not within an import: those of PyTorch and NumPy abort or fail otherwise by it."""
    place = frame
    while place:
        if place.f_code.co_filename == IMPORTING:
            from threading import Timer

            again = Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
            again.daemon = True
            again.start()
            return
        place = place.f_back
    signal.default_int_handler(number, frame)


if __name__ == "__main__":
    run()
