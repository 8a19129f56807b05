"""What became of one step of `effconv demo` or `effconv verify`."""

from typing import NamedTuple


class StepOutcome(NamedTuple):
    """One step's outcome: `holds` is None where nothing could be proven either way."""

    name: str
    holds: bool | None
    verdict: str
