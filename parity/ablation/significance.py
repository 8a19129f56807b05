"""What a difference between two detectors' metrics is worth: an interval, and whether it may be called one at all.

The interval is of a paired bootstrap over images. On few images, or few boxes of a kind, it is too narrow to judge by
(docs/precision.md has how often it errs). The verdict therefore needs a second thing: were the two detectors the same
but for chance, each image's two lists of detections could as well be the other way round, so the difference as it is
must be among the largest of those with lists swapped at random. That errs no more often than LEVEL on any number of
images. Source: Pitman, Significance Tests Which May Be Applied to Samples from Any Populations (1937); Phipson and
Smyth, Permutation P-values Should Never Be Zero (2010).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..evaluation.coco import METRICS, UNDEFINED
from .bootstrap import RESAMPLES, draw_images, metrics_of
from .matches import Area, Matches

INTERVAL = (2.5, 97.5)  # percentiles
LEVEL = 0.05  # how often two detectors that are the same but for chance may be called better or worse
SWAPS = 512  # ways of swapping that are looked at, the one without any among them
JUDGED = (
    f"A change is better or worse when its interval excludes 0 and at most {LEVEL:.0%} of {SWAPS} ways of swapping its "
    f"detections with the baseline's, image by image, make as large a difference."
)

Sampled = tuple[NDArray[np.float64], NDArray[np.float64]]  # metrics (12,), and of resamples (R, 12)


class Interval(NamedTuple):
    """A difference of a metric, its 95 % interval, and what they say.

    `chance` is the share, 0 to 1, of swaps that make as large a difference either way. The verdict is "better",
    "worse", "no effect" (none that could be told from chance), or "too few images" to tell.
    """

    difference: float
    low: float
    high: float
    chance: float
    verdict: str


def paired(ours: Matches, baseline: Matches, seed: int, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """{metric: how `ours` differs from `baseline`}, both on the same images, drawn the same for both."""
    times = draw_images(ours.images, seed, resamples)
    mine, theirs = ((metrics_of(each)[0], metrics_of(each, times)) for each in (ours, baseline))
    return intervals(mine, theirs, exchanged(interleaved(ours, baseline), draw_swaps(ours.images, seed)))


def intervals(ours: Sampled, baseline: Sampled, swapped: NDArray[np.float64]) -> dict[str, Interval]:
    """{metric: how `ours` differs from `baseline`}, of their metrics and those of the same resamples, in order.

    `swapped` (S, 12) are the differences of swapped detections (`exchanged`).
    """
    whole, differences = (difference(one, other) for one, other in zip(ours, baseline, strict=True))
    # Equal differences may be rounded differently; in doubt one counts as being as large.
    chances = (np.abs(swapped) >= np.abs(whole) - 1e-12).mean(0)
    found = {}
    for place, name in enumerate(METRICS):
        low, high = np.percentile(differences[:, place], INTERVAL)
        figures = float(whole[place]), float(low), float(high), float(chances[place])
        found[name] = Interval(*figures, _verdict(*figures, 1 / len(swapped)))
    return found


def difference(ours: NDArray[np.float64], baseline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ours less the baseline's; 0 where there is nothing to measure on."""
    return np.where(baseline == UNDEFINED, 0.0, ours - baseline)


def draw_swaps(images: int, seed: int) -> NDArray[np.bool_]:
    """(S, images): where detections are swapped, nowhere in the first row.

    All ways of swapping where they are no more than SWAPS, and SWAPS at random otherwise. The first image is never
    swapped in the former: swapping the others instead makes the same difference the other way.
    """
    if 2 ** min(images - 1, SWAPS) <= SWAPS:
        ways = np.arange(2 ** (images - 1))[:, None] << 1
        return (ways >> np.arange(images) & 1).astype(bool)
    swaps = np.random.default_rng(seed).random((SWAPS, images)) < 0.5
    swaps[0] = False
    return swaps


def interleaved(ours: Matches, baseline: Matches) -> Matches:
    """Both as matches of twice the images: `ours` in the even places, `baseline` in the odd ones."""
    return Matches(
        ours.categories,
        2 * ours.images,
        [_interleaved(one, other) for one, other in zip(ours.areas, baseline.areas, strict=True)],
    )


def _interleaved(one: Area, other: Area) -> Area:
    kinds = np.concatenate([np.repeat(np.arange(len(each.truths)), np.diff(each.offsets)) for each in (one, other)])
    image = np.concatenate([2 * one.image, 2 * other.image + 1])
    scores = np.concatenate([one.scores, other.scores])
    # As `matches` orders them, so that equal scores stay in the order of images whichever are swapped.
    order = np.lexsort((image, -scores, kinds))
    truths = np.stack([one.truths, other.truths], -1).reshape(len(one.truths), -1)
    return Area(
        one.offsets + other.offsets,
        image[order],
        np.concatenate([one.rank, other.rank])[order],
        np.concatenate([one.right, other.right])[order],
        np.concatenate([one.ignored, other.ignored])[order],
        truths,
        scores[order],
    )


def exchanged(both: Matches, swaps: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(S, 12) differences of the metrics when the images of `swaps` (S, images) have their detections swapped."""
    ours = np.stack([~swaps, swaps], -1).reshape(len(swaps), -1).astype(np.int32)
    return difference(metrics_of(both, ours), metrics_of(both, 1 - ours))


def _verdict(whole: float, low: float, high: float, chance: float, smallest: float) -> str:
    if whole and smallest > LEVEL:
        return "too few images"
    if chance > LEVEL or low <= 0 <= high:
        return "no effect"
    return "better" if low > 0 else "worse"
