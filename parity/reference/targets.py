"""What each anchor is to predict, in TensorFlow's operations: the official labelling of anchors, of one image.

Source: google/automl `tf2/anchors.py: AnchorLabeler`, `object_detection/{region_similarity_calculator, argmax_matcher,
target_assigner, faster_rcnn_box_coder}.py`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .network import Tensor, import_tensorflow

MATCH_THRESHOLD = 0.5  # matched and unmatched threshold are the same, so no anchor is ignored
CODER_EPSILON = 1e-8


class OfficialTargets(NamedTuple):
    """M anchors of one image."""

    classes: NDArray[np.int64]  # (M,) from 0; -1 where there is no box
    codes: NDArray[np.float32]  # (M, 4) [ty, tx, th, tw]; zeros where there is no box
    positives: float  # anchors that have a box


def official_targets(
    boxes: NDArray[np.float32], classes: NDArray[np.int64], anchors: NDArray[np.float32]
) -> OfficialTargets:
    """Label `anchors` (M, 4) by the true `boxes` (N, 4), both [ymin, xmin, ymax, xmax], of `classes` (N,) from 0.

    In float32, as the official input pipeline does. Raises EffconvError without TensorFlow.
    """
    tf = import_tensorflow()
    if not len(boxes):
        return OfficialTargets(np.full(len(anchors), -1), np.zeros_like(anchors), 0.0)
    truth, grid = tf.constant(boxes), tf.constant(anchors)
    matches = _matches(tf, _overlaps(tf, truth, grid))
    matched = matches > -1
    chosen = tf.maximum(matches, 0)
    # The official code counts classes from 1, gives 0 to what has no box, and takes one off at the end.
    labels = tf.where(matched, tf.gather(tf.constant(classes) + 1, chosen), 0) - 1
    codes = tf.where(matched[:, None], _encode(tf, tf.gather(truth, chosen), grid), 0.0)
    positives = tf.reduce_sum(tf.cast(matched, "float32"))
    return OfficialTargets(labels.numpy(), codes.numpy(), float(positives))


def _overlaps(tf: Any, boxes: Tensor, anchors: Tensor) -> Tensor:
    """(N, M) intersection over union; 0 where nothing is shared."""
    ymin, xmin, ymax, xmax = tf.split(boxes, 4, axis=1)  # (N, 1) each
    sides = tf.split(anchors, 4, axis=1)
    other_ymin, other_xmin, other_ymax, other_xmax = (tf.transpose(each) for each in sides)  # (1, M) each
    heights = tf.maximum(0.0, tf.minimum(ymax, other_ymax) - tf.maximum(ymin, other_ymin))
    widths = tf.maximum(0.0, tf.minimum(xmax, other_xmax) - tf.maximum(xmin, other_xmin))
    shared = heights * widths
    areas = (ymax - ymin) * (xmax - xmin)
    other_areas = (other_ymax - other_ymin) * (other_xmax - other_xmin)
    return tf.where(shared == 0.0, 0.0, shared / (areas + other_areas - shared))


def _matches(tf: Any, overlaps: Tensor) -> Tensor:
    """(M,) the box of each anchor, or -1. Every box is given its best anchor, whatever that overlaps best."""
    best = tf.argmax(overlaps, 0)
    matches = tf.where(tf.reduce_max(overlaps, 0) < MATCH_THRESHOLD, tf.constant(-1, "int64"), best)
    forced = tf.one_hot(tf.argmax(overlaps, 1), overlaps.shape[1])  # (N, M)
    return tf.where(tf.reduce_max(forced, 0) > 0, tf.argmax(forced, 0), matches)


def _encode(tf: Any, boxes: Tensor, anchors: Tensor) -> Tensor:
    """(M, 4) codes of one box per anchor."""
    (y, x, height, width), (other_y, other_x, other_height, other_width) = (
        _centre_and_size(tf, each) for each in (boxes, anchors)
    )
    codes = [
        (y - other_y) / other_height,
        (x - other_x) / other_width,
        tf.math.log(height / other_height),
        tf.math.log(width / other_width),
    ]
    return tf.stack(codes, axis=1)


def _centre_and_size(tf: Any, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=1)
    height, width = ymax - ymin, xmax - xmin
    y, x = ymin + height / 2.0, xmin + width / 2.0
    return y, x, tf.maximum(height, CODER_EPSILON), tf.maximum(width, CODER_EPSILON)
