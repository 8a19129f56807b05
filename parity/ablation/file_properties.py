"""What can be read off a file of detections: properties that one file has, another lacks, and may be given.

Each is looked for in `mine` beside `ours`, both as `Rows`, neither empty, and is made of `ours` without a model.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import first_names
from ..datasets.dataset import Dataset
from ..evaluation.coco import Rows
from .file_evidence import best_first, is_decided, is_lacking, same_boxes

DIGITS = 6  # behind the point: more are not told apart
# Of a pixel: sums of two float32 up to 8192 are that far off. With a whole pixel, boxes half a pixel beyond their image
# would count as clipped.
HAIR = 2.0**-10
# Images left out for another reason than what is on them are half and half among those where ours is surer and less
# sure; those where nothing was sure enough are next to never among the surer. This is half way.
SURER = 0.25
DEVIATIONS = 3.1  # of a mean: a normal one is that far below zero once in 1 / CHANCE


class Property(NamedTuple):
    """A property that was found, in words, and how other detections are given it."""

    name: str
    summary: str
    impose: Callable[[Rows], Rows]


Look = Callable[[Rows, Rows, Dataset], Property | None]


def _rounded_scores(mine: Rows, ours: Rows, dataset: Dataset) -> Property | None:
    digits, theirs = decimals(mine[:, 5]), decimals(ours[:, 5])
    # A last digit is 0 once in ten times: that of three scores says enough (`CHANCE`).
    if digits >= theirs or np.count_nonzero(mine[:, 5]) < 3:
        return None
    return Property(
        f"score-decimals-{digits}",
        f"scores rounded to {digits} decimals, not {theirs}{' or more' if theirs == DIGITS else ''}",
        lambda rows: np.column_stack([rows[:, :5], np.round(rows[:, 5], digits), rows[:, 6]]),
    )


def _missing_images(mine: Rows, ours: Rows, dataset: Dataset) -> Property | None:
    alike = _as_few(mine, ours)
    held, there = best_first(mine), best_first(alike)
    empty = [number for number in there if number not in held]
    # By itself an image says enough with many detections; all together by how sure those are.
    enough = [each for each in empty if is_lacking(len(there[each]), len(alike), len(mine), len(there))]
    best = {number: alike[places[0], 5] for number, places in there.items()}
    middle = np.median(list(best.values())) if best else 0.0
    sure = sum(best[number] >= middle for number in empty)
    missing = empty if is_decided(sure, 0) and sure >= SURER * len(empty) else enough
    if not missing:
        return None
    some = first_names([str(number) for number in missing])
    return Property(
        "missing-images",
        f"no detections on {len(missing)} images: id {some}",
        lambda rows: rows[~np.isin(rows[:, 0], missing)],
    )


def _missing_categories(mine: Rows, ours: Rows, dataset: Dataset) -> Property | None:
    alike = _as_few(mine, ours)
    missing = [
        number
        for number in dataset.categories
        if not np.any(mine[:, 6] == number)
        and is_lacking(int(np.sum(alike[:, 6] == number)), len(alike), len(mine), len(dataset.categories))
    ]
    if not missing:
        return None
    some = first_names([dataset.categories[number] for number in missing])
    return Property(
        "missing-categories",
        f"no detections of {len(missing)} categories: {some}",
        lambda rows: rows[~np.isin(rows[:, 6], missing)],
    )


def _fewer_detections(mine: Rows, ours: Rows, dataset: Dataset) -> Property | None:
    held, most, theirs = best_first(mine), _most(mine), _most(ours)
    if most >= theirs:
        return None
    # Of what is above the lowest score there are more in ours: is the image full in mine?
    beyond = [
        len(held[number]) == most
        for number, places in best_first(ours[ours[:, 5] >= mine[:, 5].min()]).items()
        if len(places) > most and number in held
    ]
    if not is_decided(sum(beyond), len(beyond) - sum(beyond)):
        return None
    return Property(
        f"max-detections-{most}",
        f"at most {most} detections an image, not {theirs}",
        lambda rows: keep_best(rows, most),
    )


def _score_threshold(mine: Rows, ours: Rows, dataset: Dataset) -> Property | None:
    lowest, most, held = mine[:, 5].min(), _most(mine), best_first(mine)
    # An image that is full ends where it is full, not at a threshold.
    full = [number for number, places in held.items() if len(places) == most]
    below = (ours[:, 5] < lowest) & ~np.isin(ours[:, 0], full)
    if not is_lacking(int(below.sum()), len(ours), len(mine)):
        return None
    return Property(
        f"min-score-{lowest:g}",
        f"no score below {lowest:g}; otherwise down to {ours[:, 5].min():g}",
        lambda rows: rows[rows[:, 5] >= lowest],
    )


def _clipped(mine: Rows, ours: Rows, dataset: Dataset) -> Property | None:
    sizes = {image.id: (image.width, image.height) for image in dataset.images}
    # A corner is the sum of two numbers, each off by half of the last digit that is written.
    tolerance = max(10.0 ** -decimals(mine[:, 1:5]), HAIR)
    beyond = int(_leaves(ours, sizes, tolerance).sum())
    if _leaves(mine, sizes, tolerance).any() or not is_lacking(beyond, len(ours), len(mine)):
        return None

    def clip(rows: Rows) -> Rows:
        limits = _limits(rows, sizes)
        low, high = (np.clip(corner, 0, limits) for corner in (rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]))
        return np.column_stack([rows[:, :1], low, high - low, rows[:, 5:]])

    return Property("clip", f"boxes clipped to their image, which {beyond} others leave", clip)


def _whole_pixels(mine: Rows, ours: Rows, dataset: Dataset) -> Property | None:
    # A coordinate is whole by chance once in ten times or less often: three say enough (`CHANCE`).
    if decimals(mine[:, 1:5]) > 0 or decimals(ours[:, 1:5]) == 0 or np.count_nonzero(mine[:, 1:5]) < 3:
        return None
    pairs = np.array(same_boxes(mine, ours), np.int64).reshape(-1, 2)
    offsets = mine[pairs[:, 0], 1:5] - ours[pairs[:, 1], 1:5]
    # Cutting off takes half a pixel away on average, rounding nothing: half way, and no accident (`CHANCE`).
    cut = offsets.size > 1 and offsets.mean() < -max(0.25, DEVIATIONS * offsets.std() / np.sqrt(offsets.size))
    whole = np.trunc if cut else np.round
    return Property(
        "whole-pixels",
        f"boxes {'cut off' if cut else 'rounded'} to whole pixels",
        lambda rows: np.column_stack([rows[:, :1], whole(rows[:, 1:5]), rows[:, 5:]]),
    )


# Scores are rounded first, because the others compare them. What is missing as a whole comes before numbers of
# detections and lowest scores, which it changes. A list that is cut off has a higher lowest score: a threshold is one
# above that. Boxes are clipped before they are rounded.
LOOKS: Sequence[Look] = (
    _rounded_scores,
    _missing_images,
    _missing_categories,
    _fewer_detections,
    _score_threshold,
    _clipped,
    _whole_pixels,
)


def decimals(values: NDArray[np.float64]) -> int:
    """How many digits behind the point all of `values` need, at most DIGITS; as float32 holds them is enough."""
    for digits in range(DIGITS):
        scaled = np.abs(values) * 10.0**digits
        if np.all(np.abs(scaled - np.round(scaled)) <= np.finfo(np.float32).eps * scaled):
            return digits
    return DIGITS


def keep_best(rows: Rows, most: int) -> Rows:
    """The `most` best of every image, in the order given."""
    kept = [places[:most] for places in best_first(rows).values()]
    return rows[np.sort(np.concatenate(kept))] if kept else rows


def _most(rows: Rows) -> int:
    return max(len(places) for places in best_first(rows).values()) if len(rows) else 0


def _as_few(mine: Rows, ours: Rows) -> Rows:
    """Ours with no more an image and no lower score than mine: what is missing beyond that is missing as a whole."""
    return keep_best(ours[ours[:, 5] >= mine[:, 5].min()], _most(mine))


def _limits(rows: Rows, sizes: dict[int, tuple[int, int]]) -> NDArray[np.float64]:
    return np.array([sizes[number] for number in rows[:, 0].astype(np.int64).tolist()], np.float64).reshape(-1, 2)


def _leaves(rows: Rows, sizes: dict[int, tuple[int, int]], tolerance: float) -> NDArray[np.bool_]:
    low, high = rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]
    beyond: NDArray[np.bool_] = np.any((low < -tolerance) | (high > _limits(rows, sizes) + tolerance), axis=1)
    return beyond
