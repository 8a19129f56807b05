"""Mistakes in a file of detections that another file gives away: boxes written as corners, wrong category ids."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..datasets.dataset import Dataset
from ..evaluation.coco import Rows
from .file_evidence import SAME, SUREST, best_first, is_decided, overlaps, same_boxes


class FileMistake(NamedTuple):
    """A mistake that was found, in words, and how it is put right."""

    name: str
    summary: str
    correct: Callable[[Rows], Rows]


def find_mistakes(mine: Rows, ours: Rows, dataset: Dataset) -> list[FileMistake]:
    """The mistakes of `mine`, each found once those before it are put right. Neither file is empty."""
    found = []
    if _are_corners(mine, ours):
        summary = "boxes written as [x1, y1, x2, y2], not [x, y, width, height]"
        found.append(FileMistake("corner-boxes", summary, from_corners))
        mine = from_corners(mine)
    return [*found, *_wrong_numbers(mine, ours, sorted(dataset.categories))]


def from_corners(rows: Rows) -> Rows:
    """Boxes that were written as corners, as x, y, width, height."""
    return np.column_stack([rows[:, :3], rows[:, 3:5] - rows[:, 1:3], rows[:, 5:]])


def _are_corners(mine: Rows, ours: Rows) -> bool:
    read = from_corners(mine)
    if (read[:, 3:5] < 0).any():
        return False
    votes, others = 0, 0
    there = best_first(ours)
    for number, places in best_first(mine).items():
        if number not in there:
            continue
        surest, boxes = places[:SUREST], ours[there[number], 1:5]
        corners, sizes = (overlaps(each[surest, 1:5], boxes).max(1) for each in (read, mine))
        agree = np.maximum(corners, sizes) >= SAME
        votes += int(np.sum(agree & (corners > sizes)))
        others += int(np.sum(agree & (corners < sizes)))
    return is_decided(votes, others)


def _wrong_numbers(mine: Rows, ours: Rows, numbers: list[int]) -> list[FileMistake]:
    pairs = [(int(mine[one, 6]), int(ours[other, 6])) for one, other in same_boxes(mine, ours)]
    best: tuple[int, list[FileMistake]] = (0, [])
    for name, summary, meant in (
        ("contiguous-categories", "categories numbered from 0 without the gaps", dict(enumerate(numbers))),
        ("contiguous-categories", "categories numbered from 1 without the gaps", dict(enumerate(numbers, 1))),
        ("shifted-categories", "category ids one too low", {number - 1: number for number in numbers}),
        ("shifted-categories", "category ids one too high", {number + 1: number for number in numbers}),
    ):
        right = np.array([meant.get(one, one) == other for one, other in pairs], bool)
        as_is = np.array([one == other for one, other in pairs], bool)
        if is_decided(int(np.sum(right & ~as_is)), int(np.sum(as_is & ~right))) and right.sum() > best[0]:
            best = int(right.sum()), [FileMistake(name, summary, _renumbered(meant))]
    return best[1]


def _renumbered(meant: Mapping[int, int]) -> Callable[[Rows], Rows]:
    def correct(rows: Rows) -> Rows:
        return np.column_stack([rows[:, :6], [meant.get(int(number), int(number)) for number in rows[:, 6]]])

    return correct
