"""Detections of a batch of images, and how they are written for the COCO metrics.

Source: google/automl `tf2/postprocess.py: generate_detections_from_nms_output, transform_detections`,
`coco_metric.py: EvaluationMetric`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Detections(NamedTuple):
    """M rows per image, best first. The first `valid` are found objects; what pads the rest depends on the NMS kind."""

    boxes: Tensor  # (B, M, 4) float32 [ymin, xmin, ymax, xmax]
    scores: Tensor  # (B, M) float32
    classes: Tensor  # (B, M) int64, COCO category ids: the model's class + 1
    valid: Tensor  # (B,) int64

    def scaled(self, image_scales: Tensor) -> "Detections":
        """The same with boxes multiplied by each image's scale (B,), input pixels to pixels of the original image."""
        return self._replace(boxes=self.boxes * image_scales.to(self.boxes)[:, None, None])

    def mirrored(self, widths: Tensor) -> "Detections":
        """Detections of horizontally flipped images, flipped back; `widths` (B,) are in the boxes' pixels.

        Padding rows are flipped too, as the official code does.
        """
        ymin, xmin, ymax, xmax = self.boxes.unbind(-1)
        widths = widths.to(self.boxes)[:, None]
        return self._replace(boxes=torch.stack([ymin, widths - xmax, ymax, widths - xmin], dim=-1))


def coco_rows(detections: Detections, image_ids: Sequence[int]) -> NDArray[np.float32]:
    """(B, M, 7) float32 [image id, x, y, width, height, score, category id], not rounded, padding rows included.

    This is what the official evaluation hands to pycocotools; ids above 2**24 are rounded, as they are there. Padding
    counts in the metrics only where its category exists, that is only for global NMS, whose padding is made of boxes.
    """
    ymin, xmin, ymax, xmax = detections.boxes.unbind(-1)
    ids = torch.as_tensor(list(image_ids), dtype=torch.float32)[:, None].expand(xmin.shape)
    columns = ids.to(xmin), xmin, ymin, xmax - xmin, ymax - ymin, detections.scores, detections.classes.to(xmin)
    return np.asarray(torch.stack(columns, dim=-1).detach().cpu().numpy())


def coco_results(detections: Detections, image_ids: Sequence[int]) -> list[dict[str, Any]]:
    """COCO results of a batch: boxes [x, y, width, height] to 2 decimals, scores to 3, as the official JSON has them.

    Every row is there, padding too, as in the official file; `found(detections, image)` has the found objects alone.
    """
    rows = coco_rows(detections, image_ids)
    # A box is rounded in float64, a score in float32: the official code converts the one and not the other.
    boxes = np.around(rows[..., 1:5].astype(np.float64), 2)
    scores = np.around(rows[..., 5], 3)
    return [
        {
            "image_id": int(image_id),
            "category_id": int(category),
            "bbox": box.tolist(),
            "score": float(score),
        }
        for image, image_id in enumerate(image_ids)
        for category, box, score in zip(rows[image, :, 6], boxes[image], scores[image], strict=True)
    ]


def found(detections: Detections, image: int) -> Detections:
    """The found objects of one image of the batch, as a batch of one without padding."""
    rows = slice(0, int(detections.valid[image]))
    boxes, scores, classes = (column[image : image + 1, rows] for column in detections[:3])
    return Detections(boxes, scores, classes, detections.valid[image : image + 1])


def finite(boxes: Tensor, scores: Tensor) -> Tensor:
    """(...) bool: whose corners, sides and score are finite, of boxes (..., 4) with their low corners first.

    A size code above 88.7 makes an infinite side, which no file of detections and no picture can hold; such objects are
    left out of both and counted.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    return torch.cat([boxes, sides, scores[..., None]], dim=-1).isfinite().all(dim=-1)
