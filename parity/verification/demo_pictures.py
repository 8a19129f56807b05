"""The demonstration's pictures: what is in them, what TensorFlow found and what effconv found, side by side."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from ...effdet_torch.drawing import Drawn, draw_boxes
from ...effdet_torch.preprocessing.decode import decode, read_encoded
from ..datasets.dataset import Dataset
from ..evaluation.coco import Rows

PANEL = 320  # pixels of a panel's longer side, at least: the pictures are small, and labels need room
QUALITY = 75
WHOLE_COLOURS = 0  # Pillow's number for a colour at every pixel


class Panel(NamedTuple):
    """One drawing of a picture, as JPEG."""

    caption: str
    jpeg: bytes

    @property
    def source(self) -> str:
        """The drawing as the source of an <img>."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


def strips(
    dataset: Dataset, official: Rows, ours: Rows, pictures: int, lowest_score: float
) -> list[tuple[Panel, Panel, Panel]]:
    """The first pictures three times each: annotations, TensorFlow's objects and ours from `lowest_score` up."""
    made = []
    for image in dataset.images[:pictures]:
        pixels = decode(read_encoded(image.path))
        times = max(1, -(-PANEL // max(pixels.shape[:2])))
        height, width = pixels.shape[:2]
        large = np.asarray(
            Picture.fromarray(pixels).resize((width * times, height * times), Picture.Resampling.BICUBIC)
        )
        truth = [
            _object(dataset, each["bbox"], each["category_id"], times)
            for each in dataset.annotations
            if each["image_id"] == image.id
        ]
        both = [_objects(dataset, rows, image.id, lowest_score, times) for rows in (official, ours)]
        captions = ("ground truth", "TensorFlow, recorded", "effconv")
        panels = [
            Panel(f"{image.path.name}: {caption}, {len(objects)}", _jpeg(large, objects))
            for caption, objects in zip(captions, (truth, *both), strict=True)
        ]
        made.append((panels[0], panels[1], panels[2]))
    return made


def _objects(dataset: Dataset, rows: Rows, image: int, lowest_score: float, times: int) -> list[Drawn]:
    kept = rows[(rows[:, 0] == image) & (rows[:, 5] >= lowest_score)]
    best_first = kept[np.argsort(-kept[:, 5], kind="stable")]
    return [_object(dataset, row[1:5], int(row[6]), times, f" {row[5]:.2f}") for row in best_first]


def _object(dataset: Dataset, box: Sequence[float], category: int, times: int, score: str = "") -> Drawn:
    x, y, width, height = (float(value) * times for value in box)
    name = dataset.categories.get(category, f"category {category}")
    return Drawn((x, y, x + width, y + height), name, name + score)


def _jpeg(pixels: NDArray[np.uint8], objects: list[Drawn]) -> bytes:
    encoded = io.BytesIO()
    draw_boxes(pixels, objects).save(encoded, "JPEG", quality=QUALITY, subsampling=WHOLE_COLOURS)
    return encoded.getvalue()
