"""The program `effconv`: silent when it is interrupted, at whatever moment."""

import os
import signal

from .errors import INTERRUPTED_STATUS


def run() -> None:
    """Run the command line. Before it begins and after it has ended, an interruption has nothing to clean up."""
    waits = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not so in the background of a script
    if waits:
        # Not as an exception, which imports may turn into another and finalizers print.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED_STATUS))
    from .cli import main

    try:
        if waits:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    finally:
        if waits:
            signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED_STATUS))


if __name__ == "__main__":
    run()
