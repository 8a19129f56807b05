"""Colours of a GIF that its palette does not have."""

import numpy as np
import pytest
from PIL import Image

from effconv.effdet_torch.preprocessing.gif import decode_gif
from effconv.errors import ImageError
from encoded_images import saved


def test_one_pixel_beyond_the_palette_is_enough_to_refuse() -> None:
    """Whatever the other pixels are: the palette of four colours, cut to two, has no third."""
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    encoded = saved(image, "GIF")
    assert encoded[10] & 0x87 == 0x81  # a palette of 4
    assert np.array_equal(decode_gif(encoded, "a.gif")[1], [[40, 50, 60], [70, 80, 90]])
    cut = encoded[:10] + bytes([encoded[10] - 1]) + encoded[11:19] + encoded[25:]
    with pytest.raises(ImageError, match=r"a\.gif: .*GIF: colour 2 of a palette of 2"):
        decode_gif(cut, "a.gif")
