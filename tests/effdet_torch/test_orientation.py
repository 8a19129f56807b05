"""Pictures turned upright as Pillow turns them, and boxes with what is in them."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from effconv.effdet_torch.orientation import upright_boxes, upright_pixels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_and_boxes(orientation: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 200, (20, 30, 3), np.uint8)
    pixels[4:9, 12:27] = 255
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    turned = upright_pixels(pixels, orientation)
    assert (turned == np.asarray(ImageOps.exif_transpose(image))).all()
    ((xmin, ymin, xmax, ymax),) = upright_boxes(torch.tensor([[12.0, 4, 27, 9]]), orientation, 20, 30).int().tolist()
    assert (turned[ymin:ymax, xmin:xmax] == 255).all()
    assert (xmax - xmin) * (ymax - ymin) == 75
