"""Greedy suppression of one image's boxes, compiled: one heap over all classes that stops at the boxes asked for.

TensorFlow runs one heap per class and keeps the best of their outputs. Here the classes share a heap, so that a class
is not taken further than the last box that survives; what happens within a class, and every rounding, is the same. A
candidate's score is brought up to date only when it comes to the top: then it is multiplied by the decays of the boxes
chosen since, last chosen first, which is TensorFlow's order of multiplication and therefore its bits.

numba, and not heapq with numpy: on three recorded sets of 5000 candidates this takes 0.09 to 0.14 ms and the same
algorithm with heapq 2.2 to 6.7 ms. It costs 0.7 s per process, to import numba and load the compiled code, and 2.5 s
once per installation, to compile it. Worker threads run beside each other, because it needs no interpreter lock.

Source: TensorFlow `core/kernels/image/non_max_suppression_op.cc: IOU, DoNonMaxSuppressionOp`.
"""

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


def compiled(function: Any) -> Any:
    """Compiled machine code is kept on disk beside this file or in the user's cache; without either, per process."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder it may write to
        return numba.njit(nogil=True)(function)


def _overlap(boxes: Floats, i: int, j: int) -> Any:
    """Intersection over union, float32; 0 where a box has no area. Corners may be given in either order."""
    # Comparisons, not min() and max(): they treat NaN as Eigen's mini and maxi do.
    ymin_i, ymax_i = (boxes[i, 2], boxes[i, 0]) if boxes[i, 2] < boxes[i, 0] else (boxes[i, 0], boxes[i, 2])
    xmin_i, xmax_i = (boxes[i, 3], boxes[i, 1]) if boxes[i, 3] < boxes[i, 1] else (boxes[i, 1], boxes[i, 3])
    ymin_j, ymax_j = (boxes[j, 2], boxes[j, 0]) if boxes[j, 2] < boxes[j, 0] else (boxes[j, 0], boxes[j, 2])
    xmin_j, xmax_j = (boxes[j, 3], boxes[j, 1]) if boxes[j, 3] < boxes[j, 1] else (boxes[j, 1], boxes[j, 3])
    area_i = (ymax_i - ymin_i) * (xmax_i - xmin_i)
    area_j = (ymax_j - ymin_j) * (xmax_j - xmin_j)
    if area_i <= 0 or area_j <= 0:
        return np.float32(0)
    height = (ymax_j if ymax_j < ymax_i else ymax_i) - (ymin_j if ymin_i < ymin_j else ymin_i)
    width = (xmax_j if xmax_j < xmax_i else xmax_i) - (xmin_j if xmin_i < xmin_j else xmin_i)
    shared = (height if height > 0 else np.float32(0)) * (width if width > 0 else np.float32(0))
    return shared / (area_i + area_j - shared)


def _before(scores: Floats, groups: Indices, i: int, j: int) -> bool:
    """Whether candidate i comes before j: higher score, then lower group, then lower index."""
    if scores[i] != scores[j]:
        return bool(scores[i] > scores[j])
    return bool(groups[i] < groups[j]) if groups[i] != groups[j] else i < j


def _sift_down(heap: Indices, size: int, position: int, scores: Floats, groups: Indices) -> None:
    moved = heap[position]
    while True:
        child = 2 * position + 1
        if child >= size:
            break
        if child + 1 < size and before(scores, groups, heap[child + 1], heap[child]):
            child += 1
        if not before(scores, groups, heap[child], moved):
            break
        heap[position] = heap[child]
        position = child
    heap[position] = moved


def _choose(
    boxes: Floats,
    scores: Floats,
    groups: Indices,
    box_of: Indices,
    group_count: int,
    decay: np.float32,
    iou_threshold: np.float32,
    score_threshold: np.float32,
    chosen: Indices,
    chosen_scores: Floats,
) -> int:
    current = scores.copy()
    seen = np.zeros(len(scores), np.int64)  # how many of its group's chosen boxes each candidate has been held against
    group_size = np.zeros(group_count, np.int64)
    group_last = np.full(group_count, -1, np.int64)  # the group's last chosen, as a position in `chosen`
    previous = np.empty(len(chosen), np.int64)  # the one chosen before it in its group
    heap = np.empty(len(scores), np.int64)
    size = 0
    for i in range(len(scores)):
        if scores[i] > score_threshold:
            heap[size] = i
            size += 1
    for position in range(size // 2 - 1, -1, -1):
        sift_down(heap, size, position, current, groups)
    count = 0
    while size > 0 and count < len(chosen):
        i = heap[0]
        group = groups[i]
        score = current[i]
        other = group_last[group]
        alive = True
        for _ in range(group_size[group] - seen[i]):
            iou = overlap(boxes, box_of[i], box_of[chosen[other]])
            if decay < 0:
                score = np.float32(score * np.float32(math.exp(np.float32(np.float32(decay * iou) * iou))))
            elif iou > iou_threshold:
                alive = False
                break
            elif not iou <= iou_threshold:  # NaN, of infinite boxes: TensorFlow's weight is 0
                score = np.float32(score * np.float32(0))
            if score <= score_threshold:
                break  # further decays change nothing: it is dropped
            other = previous[other]
        seen[i] = group_size[group]
        if alive and score == current[i]:
            chosen[count], chosen_scores[count] = i, score
            previous[count], group_last[group] = group_last[group], count
            group_size[group] += 1
            count += 1
            alive = False  # it leaves the heap
        elif alive:
            current[i] = score
            alive = score > score_threshold
        if not alive:
            size -= 1
            heap[0] = heap[size]
        sift_down(heap, size, 0, current, groups)
    return count


overlap = compiled(_overlap)
before = compiled(_before)
sift_down = compiled(_sift_down)
choose = compiled(_choose)
