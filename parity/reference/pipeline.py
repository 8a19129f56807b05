"""The official pipeline around the network in TensorFlow's operations: image bytes to input, outputs to detections.

It shares nothing with `effdet_torch` but the hyper-parameters in `Config`, so that it can be compared with it. Its
functions run operation by operation, as comparisons need it (TensorFlow's graph optimiser turns divisions by constants
into multiplications, which round differently), and inside a `tf.function`, as `graphs.py` measures it. Source:
google/automl `dataloader.py: DetectionInputProcessor`, `tf2/anchors.py`, `tf2/postprocess.py`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from .network import import_tensorflow

Tensor = Any  # a tf.Tensor
CANDIDATES = 5000
DETECTIONS = 100
SCORE_THRESHOLD = 0.001  # what the configuration's 0 stands for in soft-NMS
SIGMA = 0.5


class OfficialCandidates(NamedTuple):
    """The (anchor, class) pairs that go into suppression: (K, 4) yxyx, (K,) scores, (K,) classes from 0."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class OfficialDetections(NamedTuple):
    """(DETECTIONS, 4) yxyx in pixels of the original image, scores, category ids; best first, then rows of zeros."""

    boxes: Tensor
    scores: Tensor
    categories: Tensor


def official_input(encoded: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """((H, W, 3) float32 input, scale from it to the original image) of an image file's bytes."""
    tf = import_tensorflow()
    height, width = config.image_size
    image = tf.cast(tf.io.decode_image(encoded, channels=3, expand_animations=False), tf.float32)
    if not config.unit_range:
        image = (image - tf.constant(config.mean, tf.float32)) / tf.constant(config.std, tf.float32)
    given = [tf.cast(side, tf.float32) for side in tf.unstack(tf.shape(image)[:2])]
    scale = tf.minimum(tf.cast(height, tf.float32) / given[0], tf.cast(width, tf.float32) / given[1])
    scaled = [tf.cast(side * scale, tf.int32) for side in given]
    image = tf.image.resize(image, scaled, "bilinear")
    image = tf.image.pad_to_bounding_box(image[:height, :width], 0, 0, height, width)
    if config.unit_range:
        image = image * 2.0 / 255 - 1.0
    return image, 1.0 / scale


def official_anchor_boxes(config: Config) -> NDArray[np.float32]:
    """(N, 4) anchors [ymin, xmin, ymax, xmax], level by level; of a position first all aspects of the first scale."""
    boxes = []
    size = np.array(config.image_size)
    features = {0: size}
    for level in range(1, config.max_level + 1):
        features[level] = (features[level - 1] - 1) // 2 + 1
    for level in config.levels:
        stride_y, stride_x = (size / features[level]).tolist()
        rows = np.arange(stride_y / 2, size[0], stride_y)
        columns = np.arange(stride_x / 2, size[1], stride_x)
        y, x = (each.ravel() for each in np.meshgrid(rows, columns, indexing="ij"))
        kinds = []
        for octave in range(config.num_scales):
            for aspect in config.aspect_ratios:
                base = config.anchor_scale * 2 ** (octave / config.num_scales)
                half_y, half_x = base * stride_y / np.sqrt(aspect) / 2, base * stride_x * np.sqrt(aspect) / 2
                kinds.append(np.stack([y - half_y, x - half_x, y + half_y, x + half_x], 1))
        boxes.append(np.stack(kinds, 1).reshape(-1, 4))
    return np.concatenate(boxes).astype(np.float32)


def official_candidates(
    class_outputs: Sequence[Tensor], box_outputs: Sequence[Tensor], config: Config, *, ordered: bool = True
) -> OfficialCandidates:
    """The best CANDIDATES pairs of one image's outputs, (1, h, w, A*C) and (1, h, w, A*4) per level.

    The official code does not ask for an order and leaves that of equal logits to chance: `ordered=False` is as fast.
    """
    tf = import_tensorflow()
    logits = tf.concat([tf.reshape(each, [-1, config.num_classes]) for each in class_outputs], 0)
    codes = tf.concat([tf.reshape(each, [-1, 4]) for each in box_outputs], 0)
    flat = tf.reshape(logits, [-1])
    best, places = tf.math.top_k(flat, min(CANDIDATES, int(flat.shape[0])), sorted=ordered)
    anchors = tf.gather(tf.constant(official_anchor_boxes(config)), places // config.num_classes)
    boxes = official_boxes(tf.gather(codes, places // config.num_classes), anchors)
    return OfficialCandidates(boxes, tf.math.sigmoid(best), places % config.num_classes)


def official_boxes(codes: Tensor, anchors: Tensor) -> Tensor:
    """(N, 4) boxes [ymin, xmin, ymax, xmax] that `codes` [ty, tx, th, tw] (N, 4) stand for beside their anchors."""
    tf = import_tensorflow()
    ymin, xmin, ymax, xmax = tf.unstack(anchors, axis=-1)
    ty, tx, th, tw = tf.unstack(codes, axis=-1)
    height, width = ymax - ymin, xmax - xmin
    sides = tf.exp(th) * height, tf.exp(tw) * width
    y, x = ty * height + (ymin + ymax) / 2, tx * width + (xmin + xmax) / 2
    return tf.stack([y - sides[0] / 2, x - sides[1] / 2, y + sides[0] / 2, x + sides[1] / 2], axis=-1)


def official_detections(candidates: OfficialCandidates, scale: Tensor, num_classes: int) -> OfficialDetections:
    """Gaussian soft-NMS class by class with TensorFlow's own operation, then the best DETECTIONS of all classes."""
    tf = import_tensorflow()
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for label in range(num_classes):
        members = tf.where(tf.equal(candidates.classes, label))[:, 0]
        boxes = tf.gather(candidates.boxes, members)
        chosen, scores, _ = tf.raw_ops.NonMaxSuppressionV5(
            boxes=boxes,
            scores=tf.gather(candidates.scores, members),
            max_output_size=DETECTIONS,
            iou_threshold=1.0,  # without effect in soft-NMS
            score_threshold=SCORE_THRESHOLD,
            soft_nms_sigma=SIGMA / 2,  # this operation's sigma is twice the paper's
            pad_to_max_output_size=False,
        )
        found.append((tf.gather(boxes, chosen), scores, tf.fill(tf.shape(scores), label + 1)))
    padding = tf.zeros([DETECTIONS, 4]), tf.zeros([DETECTIONS]), tf.zeros([DETECTIONS], tf.int32)
    boxes, scores, categories = (tf.concat(column, 0) for column in zip(*found, padding, strict=True))
    best, order = tf.math.top_k(scores, DETECTIONS, sorted=True)
    return OfficialDetections(tf.gather(boxes, order) * scale, best, tf.gather(categories, order))
