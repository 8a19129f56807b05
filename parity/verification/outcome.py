"""What became of one step of `effconv demo` or `effconv verify`."""

from typing import NamedTuple

# In words, and as a class of the pages' style sheet.
OUTCOMES = {True: ("holds", "ok-text"), False: ("does not hold", "failed-text"), None: ("not proven", "open-text")}


class StepOutcome(NamedTuple):
    """One step's outcome: `holds` is None where nothing could be proven either way."""

    name: str
    holds: bool | None
    verdict: str
