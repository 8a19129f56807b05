"""What was found in one image."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .postprocessing.detections import finite

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 3  # objects in the short form


class FoundObject(NamedTuple):
    """One object."""

    name: str
    score: float
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in pixels of the original image
    category: int  # the model's class + 1: COCO's id, where the model has COCO's classes


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The N objects found in one image, best first, on the CPU. `len` is N; a loop over it gives `FoundObject`s."""

    boxes: Tensor  # (N, 4) float32 [xmin, ymin, xmax, ymax] in pixels of the original image; may reach beyond it
    scores: Tensor  # (N,) float32, 0 to 1
    categories: Tensor  # (N,) int64: the model's class + 1, COCO's ids where the model has COCO's classes
    names: tuple[str, ...]  # (N,) what the categories are called

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[FoundObject]:
        columns = self.names, self.scores.tolist(), map(tuple, self.boxes.tolist()), self.categories.tolist()
        return (FoundObject(*each) for each in zip(*columns, strict=True))

    def __repr__(self) -> str:
        shown = [f"{each.name} {each.score:.2f}" for each in itertools.islice(self, SHOWN)]
        more = [f"{len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return f"Prediction({len(self)} objects{': ' if shown else ''}{', '.join([*shown, *more])})"

    def above(self, score: float) -> "Prediction":
        """Only the objects with at least this score."""
        return self._of(self.scores >= score)

    def finite(self) -> "Prediction":
        """Only the objects whose box and score are finite numbers."""
        return self._of(finite(self.boxes, self.scores))

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """The objects as COCO's results have them, boxes [x, y, width, height]; those that are not finite are left
        out, since JSON cannot hold them.
        """
        return [
            {
                "image_id": image_id,
                "category_id": each.category,
                "bbox": [each.box[0], each.box[1], each.box[2] - each.box[0], each.box[3] - each.box[1]],
                "score": each.score,
            }
            for each in self.finite()
        ]

    def draw(self, image: "Image | NDArray[np.uint8]") -> "Image":
        """A copy of the image, Pillow's or RGB (H, W, 3) uint8, with the objects drawn on it.

        The image is the one that was given to `predict`, as it is stored: not turned as its EXIF tag says.
        """
        from .drawing import draw

        pixels = np.asarray(image.convert("RGB")) if hasattr(image, "convert") else np.asarray(image)
        return draw(pixels, self)

    def _of(self, kept: Tensor) -> "Prediction":
        names = tuple(name for name, keep in zip(self.names, kept.tolist(), strict=True) if keep)
        return Prediction(self.boxes[kept], self.scores[kept], self.categories[kept], names)
