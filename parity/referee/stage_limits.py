"""How far a stage of another side is from the official one, and how far rounding to float32 may bring it.

`U` is half the distance of 1 from the next number. Every difference is relative to what its limit speaks of.
"""

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from ...effdet_torch.preprocessing.resize import Size
from ..reference.pipeline import OfficialDetections

U = 2.0**-24

# Two divisions and a minimum, on either side. It refuses the scale of whole pixels, (old side) / (new side) of each
# side, which is up to one pixel in the input's side off: 1e-4 and more.
SCALE_LIMIT = 8 * U

# A coordinate is the centre plus half a side: sqrt, power, three products and a sum, on a side that computes in
# float32. Of the largest coordinate. It refuses anchors of another aspect by 1 % (1e-3 and more) or moved by a pixel.
ANCHOR_LIMIT = 16 * U

# An exponential, good to 4 units, two products, two halves and three sums, each rounded once, of the terms' magnitudes.
# It refuses clipped boxes, clamped size codes, exchanged axes and +1 sides: whole pixels, 1e-3 and more.
BOX_LIMIT = 16 * U

# A sigmoid of 16 units and a hundred factors of suppression, of which each is an exponential of an overlap that is
# good to 64 units: of the score. It refuses a score that one overlap of 2 % should have lowered.
SCORE_LIMIT = (16 + 100 * 64) * U

# A box was decoded (BOX_LIMIT) and scaled; terms may be larger than the corner that is left of them. Of its farthest
# corner or the picture's longer side. It refuses a box that was cut off or moved by a hundredth of a pixel, in pictures
# of up to 2600 pixels.
CORNER_LIMIT = 64 * U


def pixel_difference(theirs: NDArray[np.uint8], official: NDArray[np.uint8]) -> float:
    """Share of values that differ; infinite for another shape. The limit is none: decoding gives whole numbers.

    It refuses another inverse DCT, which is off by a level or more in many of a JPEG's values.
    """
    return float((theirs != official).mean()) if theirs.shape == official.shape else float("inf")


def input_limit(config: Config, picture: Size) -> float:
    """Of a normalised value. It refuses another filter, other padding (5e-3), another colour order: 5e-3 and more.

    Two interpolations have weights whose position is rounded three times at a picture's far end; what they weigh
    differs by all of the range of values at most. Normalising and adding round 16 times more.
    """
    values = 2.0 if config.unit_range else 255 / min(config.std)
    return U * values * (16 + 2 * 3 * max(*picture, *config.image_size))


def array_difference(theirs: NDArray[np.float64], official: NDArray[np.float64], size: object = 1.0) -> float:
    """Largest |theirs - official|, of `size` (a number, or one for each); infinite for another shape and for NaN."""
    if theirs.shape != official.shape:
        return float("inf")
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.where(theirs == official, 0.0, np.abs(theirs - official)) / size
    return float("inf") if np.isnan(apart).any() else float(apart.max(initial=0.0))


def box_sizes(codes: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) magnitudes of the terms that each corner is the sum of."""
    sides = anchors[:, 2:] - anchors[:, :2]
    with np.errstate(over="ignore"):
        sizes = np.abs(codes[:, :2]) * sides + np.abs(anchors).max(1, keepdims=True) + np.exp(codes[:, 2:]) * sides
    return np.concatenate([sizes, sizes], 1)


def different_detections(theirs: OfficialDetections, official: OfficialDetections, picture: Size) -> int:
    """How many detections of either side the other does not have: category, score and every corner, within limits.

    One that is as good as the last that is kept is not counted: rounding decides which of two equals stays.
    """
    free = np.ones(len(theirs.scores), bool)
    length = np.maximum(np.abs(official.boxes).max(1, initial=0), max(picture))
    lonely = []
    for place, score in enumerate(official.scores):
        with np.errstate(invalid="ignore"):
            apart = np.abs(theirs.boxes - official.boxes[place])
        apart[theirs.boxes == official.boxes[place]] = 0
        same = free & (theirs.categories == official.categories[place])
        same &= np.abs(theirs.scores - score) <= SCORE_LIMIT * score
        same &= (apart <= CORNER_LIMIT * length[place]).all(1)
        if same.any():
            free[np.argmax(same)] = False
        else:
            lonely.append(score)
    last = max((min(side.scores, default=0.0) for side in (theirs, official)), default=0.0)
    lonely += theirs.scores[free].tolist()
    if len(theirs.scores) != len(official.scores):
        return len(lonely)
    return sum(abs(score - last) > SCORE_LIMIT * last for score in lonely)
