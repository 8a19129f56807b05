"""The stages at which two pipelines are compared: of each, whether it holds, by how much it differs, and in words."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..difference import fault_of, largest, relative_error, ulp_distance
from ..limits import accumulated_limit
from ..reference.pipeline import OfficialCandidates, OfficialDetections
from .moved_outputs import Explanation, Outputs
from .pairing import Pairing

STAGES = ("input", "layers", "raw outputs", "decoded boxes", "scores", "detections", "detections end to end")

# The sigmoid that is shipped computes as TensorFlow 2.15 does, bit for bit; later ones differ from it by up to 6 units
# in the last place. It refuses any other function: a sigmoid of half precision is a thousand units off.
SCORE_ULPS = 8.0


class Measured(NamedTuple):
    """How far two sides of a stage are apart, what that may be, and what it counts or is relative to.

    Of a stage that holds it differs by no more than the limit, of one that fails by more: it is what failed.
    """

    differs: float
    limit: float
    what: str


class Stage(NamedTuple):
    """One comparison of one image: whether it holds, and what was found in words."""

    name: str
    holds: bool
    verdict: str
    measured: Measured | None = None  # None where what failed has no figure, such as another shape


def input_stage(
    ours: NDArray[np.float32], scale: np.float32, official: NDArray[np.float32], official_scale: np.float32
) -> Stage:
    """The network's input, which must be the same in every bit, and the scale that boxes are brought back by."""
    if ours.shape != official.shape:
        return Stage(STAGES[0], False, f"shape {ours.shape}, official {official.shape}")
    different = int((ours != official).sum())
    measured = Measured(float(different), 0.0, "values that differ") if different or scale == official_scale else None
    if different == 0 and scale == official_scale:
        return Stage(STAGES[0], True, f"{ours.size} values identical", measured)
    gap = np.abs(ours.astype(np.float64) - official).max()
    text = f"{different} of {ours.size} values differ, by up to {gap:.3g}; scale {scale}, official {official_scale}"
    return Stage(STAGES[0], False, text, measured)


def outputs_stage(ours: Outputs, official: Outputs, expected: Sequence[float]) -> Stage:
    """The network's raw outputs in float32; `expected` is what rounding costs each."""
    worst = 0.0
    for one, other, cost in zip(ours, official, expected, strict=True):
        if problem := fault_of(one, "candidate") or fault_of(other, "reference"):
            return Stage(STAGES[2], False, problem)
        worst = max(worst, relative_error(one, other, largest(other)) / accumulated_limit(cost))
    text = f"the largest float32 difference is {worst:.2f} of what rounding allows"
    return Stage(STAGES[2], worst <= 1, text, Measured(worst, 1.0, "of what rounding allows"))


def candidates_stage(ours: OfficialCandidates, official: OfficialCandidates) -> Stage:
    """The candidates decoded from the same outputs, which must be the same in every bit."""
    if len(ours.scores) != len(official.scores):
        return Stage(STAGES[3], False, f"{len(ours.scores)} candidates, official {len(official.scores)}")
    measured = Measured(_count(ours, official), 0.0, "candidates that differ")
    for column, places in _differing(ours, official):
        text = f"{column} of {len(places)} candidates differ, first of number {places[0]}"
        return Stage(STAGES[3], False, text, measured)
    return Stage(STAGES[3], True, f"{len(ours.scores)} candidates identical", measured)


def scores_stage(ours: OfficialCandidates, official: OfficialCandidates) -> Stage:
    """The scores that users get, of the same logits: those of the candidates, best first on both sides."""
    if len(ours.scores) != len(official.scores):
        return Stage(STAGES[4], False, f"{len(ours.scores)} scores, official {len(official.scores)}")
    ours_sorted, theirs = np.sort(ours.scores), np.sort(official.scores)
    distance = math.inf if fault_of(ours_sorted, "") else ulp_distance(ours_sorted, theirs)
    text = f"scores of the same logits within {distance:.0f} units in the last place, allowed {SCORE_ULPS:.0f}"
    return Stage(
        STAGES[4], distance <= SCORE_ULPS, text, Measured(distance, SCORE_ULPS, "units in the last place of a score")
    )


def detections_stage(ours: OfficialDetections, official: OfficialDetections) -> Stage:
    """The detections of the same outputs, which must be the same in every bit."""
    if len(ours.scores) != len(official.scores):
        return Stage(STAGES[5], False, f"{len(ours.scores)} detections, official {len(official.scores)}")
    measured = Measured(_count(ours, official), 0.0, "detections that differ")
    for column, places in _differing(ours, official):
        text = f"{column} differ from detection {places[0]} on, of the same outputs"
        return Stage(STAGES[5], False, text, measured)
    return Stage(STAGES[5], True, f"{len(ours.scores)} detections of the same outputs identical", measured)


def lists_stage(pairing: Pairing, found: Explanation) -> Stage:
    """The final lists of either side's own outputs; measured by what failed, or by the scores of matched objects."""
    lost = len(pairing.only_first) + len(pairing.only_second)
    scores = Measured(pairing.score_gap, found.score_limit, "of a matched object's score")
    if found.lists != "unexplained":
        return Stage(STAGES[6], True, found.verdict, scores)
    if lost > found.lost_limit:
        failed = Measured(float(lost), found.lost_limit, "objects without a partner")
    elif not pairing.score_gap <= found.score_limit:
        failed = scores
    else:
        failed = Measured(float(found.elsewhere), 0.0, "matched objects at another place of the list")
    return Stage(STAGES[6], False, found.verdict, failed)


def _count(ours: OfficialCandidates | OfficialDetections, official: OfficialCandidates | OfficialDetections) -> float:
    """How many rows differ in any column."""
    return float(len({place for _, places in _differing(ours, official) for place in places.tolist()}))


def _differing(
    ours: OfficialCandidates | OfficialDetections, official: OfficialCandidates | OfficialDetections
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """(column, places where it differs in any bit) of two tables of equal length."""
    columns: Iterable[tuple[str, Any, Any]] = zip(official._fields, ours, official, strict=True)
    for column, one, other in columns:
        places = np.flatnonzero((one != other).reshape(len(one), -1).any(1))
        if len(places):
            yield column, places
