"""A comparison layer by layer, as values: what was measured at each layer, what is allowed, and what failed first."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...convert.layers import Layer
from ..difference import Difference
from ..traces.trace import Kind
from .soundness import Soundness


class Noise(NamedTuple):
    """Each side's own rounding at a layer: its float32 against its float64, relative to the reference's largest.

    They are shown; no limit is made of them. Where the reference exists in float32 only, its own is what rounding every
    layer once would cost.
    """

    candidate: float
    reference: float
    estimated: bool  # the reference exists in float32 only


class Check(NamedTuple):
    """One comparison of one layer: within `limit` of the reference's largest value, or element by element."""

    difference: Difference
    limit: float  # element by element: the largest of them
    noise: Noise | None = None  # of float32 comparisons
    times_bound: float | None = None  # the largest difference by what its own element allows; None: `limit` is for all

    @property
    def ok(self) -> bool:
        """Whether the error is within the limit. NaN and infinity are within none."""
        if not math.isfinite(self.difference.error):
            return False
        return self.difference.error <= self.limit if self.times_bound is None else self.times_bound <= 1

    @property
    def reason(self) -> str:
        """The error beside what is allowed, in words."""
        if self.times_bound is None:
            return f"error {self.difference.error:.1e}, limit {self.limit:.1e}"
        return f"error {self.difference.error:.1e}, {self.times_bound:.3g} times what rounding allows"


class Row(NamedTuple):
    """One layer. `checks` is keyed "float64 local", "float32 local", "float64 accumulated", "float32 accumulated"."""

    layer: Layer
    shape: tuple[int, ...]  # (B, H, W, C)
    checks: Mapping[str, Check]
    faults: Mapping[Kind, str]  # why the two cannot be compared, by kind of comparison
    soundness: Mapping[str, Soundness] = {}  # of each side by itself, keyed "candidate" and "reference"

    @property
    def ok(self) -> bool:
        """Whether the layer could be compared, every check holds and each side's float32 is sound."""
        outcomes = [check.ok for check in self.checks.values()] + [each.ok for each in self.soundness.values()]
        return not self.faults and bool(outcomes) and all(outcomes)

    @property
    def is_source(self) -> bool:
        """Whether the layer itself is at fault, and not only what it was given."""
        unsound = any(not each.ok for each in self.soundness.values())
        failed = [name for name, check in self.checks.items() if not check.ok]
        return "local" in self.faults or unsound or any(name.endswith("local") for name in failed)

    @property
    def reason(self) -> str:
        """What is wrong with the layer, in words; empty when nothing is."""
        for fault in self.faults.values():
            return fault
        failed = {name: check.reason for name, check in self.checks.items() if not check.ok}
        if "float64 local" in failed:  # another algorithm: what float32 makes of it follows from that
            return f"float64 local {failed['float64 local']}"
        for side, each in self.soundness.items():
            if not each.ok:
                return f"the {side}'s {each.reason}"
        for name, reason in failed.items():
            return f"{name} {reason}"
        return "" if self.checks or self.soundness else "not compared"


def first_failure(rows: Sequence[Row]) -> Row | None:
    """The layer where the two part: the first that is itself at fault, else the first that differs at all."""
    failed = [row for row in rows if not row.ok]
    return next((row for row in failed if row.is_source), failed[0] if failed else None)
