"""The gap between two pipelines split over their differences, whatever order they are made in.

Source: Shapley, A Value for n-Person Games (1953): a difference's part is what it adds, averaged over all orders.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from ...errors import EffconvError
from .record import Gap

MOST = 6  # differences: 64 evaluations


def waterfall(names: Sequence[str], value: Callable[[tuple[str, ...]], float]) -> Gap:
    """The gap between `value(())` and `value(names)` in parts.

    `value` is the metric with some of the differences made, in the order of `names`. Raises EffconvError for more than
    MOST differences.
    """
    if not 2 <= len(names) <= MOST:
        raise EffconvError(f"a gap is split over 2 to {MOST} differences, found {len(names)}")
    values = {
        chosen: value(chosen) for count in range(len(names) + 1) for chosen in itertools.combinations(names, count)
    }
    gap = values[tuple(names)] - values[()]
    alone = {name: values[(name,)] - values[()] for name in names}
    return Gap(
        first=values[()],
        last=values[tuple(names)],
        gap=gap,
        parts={name: _part(name, names, values) for name in names},
        alone=alone,
        interaction=gap - sum(alone.values()),
        evaluations=len(values),
    )


def _part(name: str, names: Sequence[str], values: Mapping[tuple[str, ...], float]) -> float:
    others = [each for each in names if each != name]
    part = 0.0
    for count in range(len(others) + 1):
        # Of all orders, so many have just these before it.
        share = math.factorial(count) * math.factorial(len(others) - count) / math.factorial(len(names))
        for before in itertools.combinations(others, count):
            after = tuple(each for each in names if each == name or each in before)
            part += share * (values[after] - values[before])
    return part


def waterfall_lines(split: Gap) -> list[str]:
    """The split as text: from one pipeline's AP to the other's."""
    lines = [f"{'official':24} {split.first:.4f}"]
    for name, part in sorted(split.parts.items(), key=lambda each: abs(each[1]), reverse=True):
        lines.append(f"  {name:22} {part:+.4f}   alone {split.alone[name]:+.4f}")
    lines.append(f"{'all of them':24} {split.last:.4f}   interaction {split.interaction:+.4f}")
    return lines
