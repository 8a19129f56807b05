"""COCO's metrics of resampled images.

Every image counts as often as it was drawn. That equals the metrics of a dataset in which it is there so many times:
copies of a detection follow one another in the order of scores, and of the points they add to the curve of precision
only the last can be its highest. (Where two detections of one image and category have the very same score, copies of
the image would take turns; here they stay together.) Source: pycocotools `cocoeval.py: COCOeval.accumulate, summarize`;
Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..evaluation.coco import UNDEFINED
from .matches import LIMIT, THRESHOLDS, Area, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
LIMITS = np.array([1, 10, LIMIT])
RESAMPLES = 1000


def draw_images(images: int, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int32]:
    """(resamples, images): how often each image is drawn, as many in all as there are images."""
    random = np.random.default_rng(seed)
    return random.multinomial(images, np.full(images, 1 / images), resamples).astype(np.int32)


def metrics_of(matches: Matches, times: NDArray[np.int32] | None = None) -> NDArray[np.float64]:
    """(R, 12) metrics, in the order of `coco.METRICS`, counting each image as often as `times` (R, images) says.

    Without `times` once each. A metric is -1 where there is no true box to measure on.
    """
    counts = np.ones((1, matches.images), np.int32) if times is None else np.ascontiguousarray(times)
    precision, recall = zip(*(_area_metrics(area, counts) for area in matches.areas), strict=True)
    middle = len(LIMITS) - 1
    columns = [
        _mean(precision[0]),
        _mean(precision[0][:, :, :1]),
        _mean(precision[0][:, :, 5:6]),  # 0.75
        *(_mean(precision[area]) for area in (1, 2, 3)),
        *(_mean(recall[0][..., limit]) for limit in range(len(LIMITS))),
        *(_mean(recall[area][..., middle]) for area in (1, 2, 3)),
    ]
    return np.stack(columns, 1)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over all axes but the first, of what is defined."""
    flat = values.reshape(len(values), -1)
    defined = flat > UNDEFINED
    count = defined.sum(1)
    return np.where(count > 0, np.where(defined, flat, 0).sum(1) / np.maximum(count, 1), UNDEFINED)


def _area_metrics(area: Area, times: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """((R, K, 10) average precisions, (R, K, 10, 3) recalls), -1 for categories without true boxes."""
    kinds = len(area.truths)
    precision = np.full((len(times), kinds, len(THRESHOLDS)), UNDEFINED)
    recall = np.full((len(times), kinds, len(THRESHOLDS), len(LIMITS)), UNDEFINED)
    _accumulate(*area[:6], times, RECALLS, LIMITS, precision, recall)
    return precision, recall


# Not in parallel: numba would set OpenMP's threads, which are PyTorch's too, and another number rounds otherwise.
@njit(cache=True)  # type: ignore[untyped-decorator]
def _accumulate(
    offsets: NDArray[np.int64],
    image: NDArray[np.int32],
    rank: NDArray[np.int32],
    right: NDArray[np.uint16],
    ignored: NDArray[np.uint16],
    truths: NDArray[np.int32],
    times: NDArray[np.int32],
    recalls: NDArray[np.float64],
    limits: NDArray[np.int64],
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
) -> None:
    drawn, often = np.empty(len(image), np.int64), np.empty(len(image), np.int64)
    heights, hits = np.empty(len(image) + 1), np.empty(len(image) + 1)
    for draw in range(len(times)):
        for kind in range(len(truths)):
            total = 0
            for place in range(truths.shape[1]):
                total += truths[kind, place] * times[draw, place]
            if total == 0:
                continue
            count = 0  # of detections in images that are drawn
            for place in range(offsets[kind], offsets[kind + 1]):
                drawn[count], often[count] = place, times[draw, image[place]]
                count += often[count] > 0
            for bit in range(precision.shape[2]):
                flag = np.uint16(1 << bit)
                found, wrong, points = 0, 0, 0
                for limit in range(len(limits)):
                    recall[draw, kind, bit, limit] = 0.0
                for each in range(count):
                    place = drawn[each]
                    if ignored[place] & flag:
                        continue
                    if right[place] & flag:
                        found += often[each]
                        heights[points] = found / (found + wrong + np.spacing(1.0))
                        hits[points] = found / total
                        points += 1
                        for limit in range(len(limits)):
                            if rank[place] < limits[limit]:
                                recall[draw, kind, bit, limit] += often[each]
                    else:
                        wrong += often[each]
                for limit in range(len(limits)):
                    recall[draw, kind, bit, limit] /= total
                area, highest, point = 0.0, 0.0, points - 1
                for step in range(len(recalls) - 1, -1, -1):
                    # The highest precision at this recall or any larger one; none where it is not reached.
                    while point >= 0 and hits[point] >= recalls[step]:
                        highest = max(highest, heights[point])
                        point -= 1
                    area += highest
                precision[draw, kind, bit] = area / len(recalls)
