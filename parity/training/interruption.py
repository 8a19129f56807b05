"""Ctrl-C and SIGTERM during a training: the step at hand is finished first, so that its state can be kept."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from ...errors import EffconvError

STOPPING = (signal.SIGINT, signal.SIGTERM)


class StoppedError(EffconvError):
    """A training stopped by a signal. Exits with 128 and the signal's number, as shells report it."""

    def __init__(self, number: int, advice: str = ""):
        super().__init__(number, advice)
        self.number, self.advice = number, advice
        self.exit_status = 128 + number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}{self.advice}"


class Stops:
    """The first signal that came. Signals are noted only, but inside `at_once`, where StoppedError is raised."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self.found: StoppedError | None = None
        self._at_once = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While the block runs, signals come here. Only a main thread may ask for them; in others nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {each: signal.signal(each, self._note) for each in STOPPING}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """What the block does may be cut off: it is done again when the training is gone on with."""
        self._at_once = True
        try:
            if self.found:
                raise self.found
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.found is None and not self._at_once:
            self.say("stopping after the step at hand")
        self.found = self.found or StoppedError(number)
        if self._at_once:
            raise self.found
