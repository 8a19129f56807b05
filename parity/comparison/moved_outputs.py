"""Whether rounding explains that two lists of detections differ: TensorFlow's own list, of outputs moved so far.

The reach is what rounding every layer once costs an output, never how far the two sides are apart.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..difference import largest
from .pairing import Pairing

Outputs = list[NDArray[np.float32]]  # class outputs by level, then box outputs by level, (1, h, w, channels)

TRIALS = 8  # runs of the official post-processing on outputs moved at random
REACH = 4.0  # times the expected cost: sound outputs are 1 to 3 times that apart (docs/precision.md), limits at 12

# A list may lose this many times as many objects as the one of TRIALS that loses most. One more trial would lose more
# than the most of eight in a ninth of all images, twice as many in hardly any. It refuses a list that differs by more
# than rounding makes TensorFlow's own differ: all objects, or those of one class.
LOST_FACTOR = 2.0


class Explanation(NamedTuple):
    """How two lists compare, in words too, and the limits that they were judged by."""

    lists: str  # "identical", "explained" or "unexplained"
    verdict: str
    score_limit: float  # of the difference within a pair
    lost_limit: float  # objects of either list without a partner
    elsewhere: int  # of the matched: at another place of the list


def explanation(
    pairing: Pairing,
    score_gap: float,
    official: Outputs,
    expected: Sequence[float],
    trial: Callable[[Outputs], Pairing] | None,
) -> Explanation:
    """Our list beside TensorFlow's.

    Scores of the same object may differ by `score_gap`, or by what they differ where the order of near-ties changes
    what suppresses what. `expected` is what rounding costs each output, of its largest; `trial(outputs)` matches
    TensorFlow's list with that of other outputs. Where it is None, something else is wrong already, and rounding
    explains nothing.
    """
    total = len(pairing.pairs) + len(pairing.only_first)
    verdict = f"{len(pairing.pairs)} of {total} detections matched one to one"
    if pairing.identical and pairing.score_gap <= score_gap:
        return Explanation("identical", verdict, score_gap, 0.0, 0)
    elsewhere = sum(one != other for one, other in pairing.pairs)
    lost = len(pairing.only_first) + len(pairing.only_second)
    verdict += f", {elsewhere} in another place, {len(pairing.only_first)} replaced"

    def said(allowed: float) -> str:
        """The verdict, with scores that are further apart than rounding alone makes them, and what they may be."""
        apart = f", scores up to {pairing.score_gap:.2g} apart, allowed {allowed:.2g}"
        return verdict if pairing.score_gap <= score_gap else verdict + apart

    if trial is None:
        return Explanation("unexplained", said(score_gap), score_gap, 0.0, elsewhere)
    found = [trial(outputs) for outputs in moved(official, expected)]
    changed = [each for each in found if not each.identical]
    most = max(len(each.only_first) + len(each.only_second) for each in found)
    # Scores change what suppresses what only where a list changes.
    widest = max(score_gap, LOST_FACTOR * max(each.score_gap for each in found)) if changed else score_gap
    trials = (
        f"; with its outputs moved by what rounding costs, TensorFlow's own list changes in {len(changed)} of {TRIALS} "
        f"trials, by up to {most // 2} replaced"
    )
    explained = bool(changed) and lost <= LOST_FACTOR * most and pairing.score_gap <= widest
    lists = "explained" if explained else "unexplained"
    return Explanation(lists, said(widest) + trials, widest, LOST_FACTOR * most, elsewhere)


def moved(official: Outputs, expected: Sequence[float]) -> Iterator[Outputs]:
    """Outputs, TRIALS times, each value moved at random by at most REACH times what rounding costs its map."""
    for seed in range(TRIALS):
        random = np.random.default_rng(seed)
        moved = []
        for each, cost in zip(official, expected, strict=True):
            reach = REACH * cost * largest(each)
            moved.append((each + random.uniform(-reach, reach, each.shape)).astype(np.float32))
        yield moved
