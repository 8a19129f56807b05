"""Pictures with an EXIF orientation turned upright, and boxes with them, to be looked at; the network sees neither."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# What makes each orientation upright: rows and columns exchanged, then left and right, then top and bottom.
# Source: Exif 2.32 (CIPA DC-008), section 4.6.4, tag 274.
STEPS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


def upright_pixels(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(H, W, 3) pixels as a viewer shows those of this EXIF orientation, 1 to 8; a copy."""
    exchanged, mirrored, upside_down = STEPS[orientation]
    turned = pixels.swapaxes(0, 1) if exchanged else pixels
    return np.ascontiguousarray(turned[:: -1 if upside_down else 1, :: -1 if mirrored else 1])


def upright_boxes(boxes: Tensor, orientation: int, height: int, width: int) -> Tensor:
    """(N, 4) boxes [xmin, ymin, xmax, ymax] on a stored picture of this size, where `upright_pixels` shows them."""
    exchanged, mirrored, upside_down = STEPS[orientation]
    if exchanged:
        boxes, height, width = boxes[:, [1, 0, 3, 2]], width, height
    xmin, ymin, xmax, ymax = boxes.unbind(1)
    if mirrored:
        xmin, xmax = width - xmax, width - xmin
    if upside_down:
        ymin, ymax = height - ymax, height - ymin
    return torch.stack([xmin, ymin, xmax, ymax], 1)
