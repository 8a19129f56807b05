"""Some of a dataset's pictures, small, with their true boxes and names: the quickest look at what is annotated."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from ...effdet_torch.drawing import Drawn, draw_boxes
from ...effdet_torch.preprocessing.decode import decode, read_encoded
from ...errors import ImageError
from .dataset import Dataset, Image
from .findings import Finding

SHOWN = 12
FAULTY = 6  # of them at most are shown because something was found in them
SIDE = 320  # pixels of the longer side
WHOLE_COLOURS = 0  # Pillow's number for a colour at every pixel: lines are a pixel wide
QUALITY = 75  # of the JPEGs: some 20 kB each


class Thumbnail(NamedTuple):
    """A picture's file name, how many boxes it has, and the drawing as JPEG."""

    name: str
    boxes: int
    jpeg: bytes

    @property
    def source(self) -> str:
        """The drawing as the source of an <img>."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


def thumbnails(dataset: Dataset, findings: Sequence[Finding]) -> list[Thumbnail]:
    """Some pictures in which something was found, and others from all over the dataset; none that cannot be read."""
    drawn = []
    for image in _chosen(dataset, findings):
        try:
            pixels = decode(read_encoded(image.path), name=image.path.name)
        except ImageError:
            continue
        drawn.append(_draw(dataset, image, pixels))
        if len(drawn) == SHOWN:
            break
    return drawn


def _chosen(dataset: Dataset, findings: Sequence[Finding]) -> list[Image]:
    """Twice as many as are shown where there are as many, as some may be unreadable."""
    named = {example.where for finding in findings for example in finding.examples[:2]}
    faulty = [image for image in dataset.images if image.path.name in named][:FAULTY]
    marked = {each["image_id"] for each in dataset.annotations}
    others = [image for image in dataset.images if image.id in marked and image not in faulty]
    spread = np.linspace(0, max(0, len(others) - 1), min(2 * SHOWN, len(others))).astype(int).tolist()
    in_turn = [others[place] for place in spread]
    return [*faulty, *in_turn[::2], *in_turn[1::2]]


def _draw(dataset: Dataset, image: Image, pixels: NDArray[np.uint8]) -> Thumbnail:
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = Picture.fromarray(pixels).resize((max(1, round(width * scale)), max(1, round(height * scale))))
    objects = []
    for each in dataset.annotations:
        if each["image_id"] == image.id:
            x, y, across, down = (value * scale for value in each["bbox"])
            name = dataset.categories[each["category_id"]]
            objects.append(Drawn((x, y, x + across, y + down), name, name))
    encoded = io.BytesIO()
    draw_boxes(np.asarray(small), objects).save(encoded, "JPEG", quality=QUALITY, subsampling=WHOLE_COLOURS)
    return Thumbnail(image.path.name, len(objects), encoded.getvalue())
