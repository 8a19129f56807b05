"""True boxes at a model's input: scaled as pictures are, with their aspect kept, and cut off as training does."""

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from ...effdet_torch.training.augment import scaled_size
from .boxes import Boxes


def fitted_sizes(boxes: Boxes, config: Config) -> NDArray[np.int64]:
    """(N, 2) height and width that each box's picture is resized to; 0 where a side of it vanishes."""
    different, which = np.unique(boxes.sizes, axis=0, return_inverse=True)
    fitted = [scaled_size((int(height), int(width)), config.image_size, np.float32(1)) for height, width in different]
    return np.array(fitted, np.int64).reshape(-1, 2)[which.reshape(-1)]


def resized_sides(boxes: Boxes, config: Config) -> NDArray[np.float64]:
    """(N, 2) heights and widths of the boxes at the model's input; nothing is cut off."""
    return boxes.xywh[:, :1:-1] * fitted_sizes(boxes, config) / boxes.sizes


def resized_boxes(boxes: Boxes, config: Config) -> NDArray[np.float32]:
    """(N, 4) [ymin, xmin, ymax, xmax] as `augment.unchanged` gives a training: in float32, cut off at the number of the
    input's last pixel. Boxes of which nothing is left have no area.
    """
    x, y, width, height = boxes.xywh.T
    given = np.tile(boxes.sizes, 2)
    shares = (np.stack([y, x, y + height, x + width], 1) / given).astype(np.float32)
    last = np.array([*config.image_size, *config.image_size], np.float32) - 1
    clipped: NDArray[np.float32] = np.clip(shares * np.tile(fitted_sizes(boxes, config), 2).astype(np.float32), 0, last)
    return clipped
