"""Which detection is which true box, image by image, as COCO's metrics match them; flat, so that images can be counted
more than once without matching anew.

Source: pycocotools `cocoeval.py: COCOeval.computeIoU, evaluateImg`, `maskApi.c: bbIou`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..datasets.dataset import Dataset, Image
from ..evaluation.coco import Rows

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of intersection over union
AREAS = np.array([[0, 1e10], [0, 32.0**2], [32.0**2, 96.0**2], [96.0**2, 1e10]])  # all, small, medium, large
LIMIT = 100  # detections per image and category


class Area(NamedTuple):
    """Matches within one range of areas: detections by category, best first, those ignored at every threshold left out.

    Bit t of `right` says whether a detection finds a true box at threshold t, of `ignored` whether it counts for
    nothing there. `truths` are the true boxes to be found.
    """

    offsets: NDArray[np.int64]  # (K + 1,): detections of category k are offsets[k]:offsets[k + 1]
    image: NDArray[np.int32]  # (D,) place of its image
    rank: NDArray[np.int32]  # (D,) place among its image's detections of the category
    right: NDArray[np.uint16]  # (D,)
    ignored: NDArray[np.uint16]  # (D,)
    truths: NDArray[np.int32]  # (K, images)
    scores: NDArray[np.float64]  # (D,)


class Matches(NamedTuple):
    """Matches of all detections; `categories` are the dataset's ids in order, `images` how many there are."""

    categories: list[int]
    images: int
    areas: list[Area]  # as AREAS


def match_detections(dataset: Dataset, detections: Rows, images: Sequence[Image] | None = None) -> Matches:
    """Match `detections` (N, 7) with the true boxes of `images` (default: all of the dataset), in the order of ids."""
    chosen = sorted(image.id for image in (dataset.images if images is None else images))
    places = {number: place for place, number in enumerate(chosen)}
    categories = sorted(dataset.categories)
    kinds = {number: place for place, number in enumerate(categories)}
    truths = np.array(
        [
            (places[each["image_id"]], kinds[each["category_id"]], *each["bbox"], each["area"], each["iscrowd"])
            for each in dataset.annotations
            if each["image_id"] in places
        ],
        np.float64,
    ).reshape(-1, 8)
    known = [place for place, row in enumerate(detections) if row[6] in kinds]
    rows = detections[known]
    found = np.column_stack(
        [[places[int(row[0])] for row in rows], [kinds[int(row[6])] for row in rows], rows[:, 1:6]]
    ).reshape(-1, 7)
    # By image and category, then best first; equal scores stay in the order given.
    found = found[np.lexsort((-found[:, 6], found[:, 1], found[:, 0]))]
    truths = truths[np.lexsort((truths[:, 1], truths[:, 0]))]
    return Matches(
        categories, len(chosen), [_area(found, truths, bounds, len(chosen), len(categories)) for bounds in AREAS]
    )


def _area(
    found: NDArray[np.float64], truths: NDArray[np.float64], bounds: NDArray[np.float64], images: int, kinds: int
) -> Area:
    cells, given = (table[:, 0] * kinds + table[:, 1] for table in (found, truths))
    edges = np.arange(images * kinds + 1)
    right, ignored, rank, counts = _match(
        found, truths, np.searchsorted(cells, edges), np.searchsorted(given, edges), bounds, THRESHOLDS
    )
    everywhere = (1 << len(THRESHOLDS)) - 1
    kept = np.flatnonzero((rank < LIMIT) & (ignored != everywhere))
    # Within a category by score, equal scores in the order of images: how the metrics' stable sort leaves them.
    order = kept[np.lexsort((found[kept, 0], -found[kept, 6], found[kept, 1]))]
    offsets = np.searchsorted(found[order, 1], np.arange(kinds + 1))
    return Area(
        offsets,
        found[order, 0].astype(np.int32),
        rank[order],
        right[order],
        ignored[order],
        counts.reshape(images, kinds).T.copy(),
        found[order, 6],
    )


@njit(cache=True)  # type: ignore[untyped-decorator]
def _match(
    found: NDArray[np.float64],  # (D, 7): image, category, x, y, width, height, score
    truths: NDArray[np.float64],  # (T, 8): image, category, x, y, width, height, area, crowd
    starts: NDArray[np.int64],  # (cells + 1,) of detections, a cell being an image and a category
    truth_starts: NDArray[np.int64],
    bounds: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int32], NDArray[np.int32]]:
    right, ignored = np.zeros(len(found), np.uint16), np.zeros(len(found), np.uint16)
    rank, counts = np.zeros(len(found), np.int32), np.zeros(len(starts) - 1, np.int32)
    for cell in range(len(starts) - 1):
        first, last = starts[cell], starts[cell + 1]
        begin, end = truth_starts[cell], truth_starts[cell + 1]
        skipped = np.empty(end - begin, np.bool_)
        for place in range(begin, end):
            area = truths[place, 6]
            skipped[place - begin] = truths[place, 7] != 0 or area < bounds[0] or area > bounds[1]
        order = np.concatenate((np.flatnonzero(~skipped), np.flatnonzero(skipped)))
        counts[cell] = len(order) - skipped.sum()
        last = min(last, first + LIMIT)
        for place in range(starts[cell], starts[cell + 1]):
            rank[place] = place - first
        overlaps = np.empty((last - first, end - begin))
        for one in range(first, last):
            for other in range(begin, end):
                overlaps[one - first, other - begin] = _overlap(found[one], truths[other])
        for bit in range(len(thresholds)):
            taken = np.zeros(end - begin, np.bool_)
            for one in range(first, last):
                best, chosen = thresholds[bit], -1
                for other in order:
                    if taken[other] and truths[begin + other, 7] == 0:
                        continue
                    # True boxes that count come first: one of them is not given up for one that does not.
                    if chosen > -1 and not skipped[chosen] and skipped[other]:
                        break
                    if overlaps[one - first, other] < best:
                        continue
                    best, chosen = overlaps[one - first, other], other
                if chosen > -1:
                    taken[chosen] = True
                    if skipped[chosen]:
                        ignored[one] |= np.uint16(1 << bit)
                    else:
                        right[one] |= np.uint16(1 << bit)
                    continue
                area = found[one, 4] * found[one, 5]
                if area < bounds[0] or area > bounds[1]:
                    ignored[one] |= np.uint16(1 << bit)
    return right, ignored, rank, counts


@njit(cache=True)  # type: ignore[untyped-decorator]
def _overlap(found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Intersection over union; over the detection's own area where the true box is a crowd."""
    width = min(found[2] + found[4], truth[2] + truth[4]) - max(found[2], truth[2])
    height = min(found[3] + found[5], truth[3] + truth[5]) - max(found[3], truth[3])
    if width <= 0 or height <= 0:
        return 0.0
    shared, area = width * height, found[4] * found[5]
    return float(shared / (area if truth[7] != 0 else area + truth[4] * truth[5] - shared))
