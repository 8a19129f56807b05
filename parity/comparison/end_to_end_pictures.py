"""Pictures with TensorFlow's objects and effconv's, side by side; those that differ have a dashed band and a number."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from ...effdet_torch.categories import category_name
from ...effdet_torch.config import Config
from ...effdet_torch.drawing import Box, Drawn, draw_boxes, inside_picture
from ...effdet_torch.preprocessing.decode import decode
from ..reference.pipeline import OfficialDetections
from .end_to_end import ImageResult
from .object_differences import ObjectDifference, object_differences

LONGER = 480  # pixels of a picture's longer side
QUALITY = 75
WHOLE_COLOURS = 0  # Pillow's number for a colour at every pixel: lines are a pixel wide
SHOWN_SCORE = 0.3  # from which objects are drawn; those that differ are, whatever their score
FEWEST = 5  # objects that are drawn where none has such a score
MOST_MARKED = 10  # objects that differ, of one picture: more cannot be told apart in it
BAND, DASH = 2, 7  # pixels on either side of a marked object's outline; of a dash


class Drawing(NamedTuple):
    """One side's picture, as JPEG, and how many of its objects are drawn, of how many.

    Objects wholly outside the picture, and those with an infinite side, cannot be drawn.
    """

    jpeg: bytes
    drawn: int
    of: int

    @property
    def source(self) -> str:
        """The drawing as the source of an <img>."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


class Compared(NamedTuple):
    """One image: both sides' pictures, and the objects that differ, the first of which are marked by their place from
    1."""

    result: ImageResult
    official: Drawing
    ours: Drawing
    differences: Sequence[ObjectDifference]


def compared_pictures(encoded: bytes, result: ImageResult, config: Config) -> Compared:
    """Both sides' pictures of an image's bytes. Raises ImageError where they cannot be decoded."""
    differences = object_differences(result.official, result.ours, result.pairing, result.score_limit)
    marked = differences[:MOST_MARKED]
    numbers = [
        {place: number for number, each in enumerate(marked, 1) if (place := getattr(each, side)) is not None}
        for side in ("official", "ours")
    ]
    pixels = decode(encoded)
    height, width = pixels.shape[:2]
    scale = LONGER / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resized = np.asarray(Picture.fromarray(pixels).resize(size, Picture.Resampling.BICUBIC))
    shown = _shown(result)
    sides = [
        _side(resized, scale, found, {*kept, *numbered}, numbered, config)
        for found, kept, numbered in zip((result.official, result.ours), shown, numbers, strict=True)
    ]
    return Compared(result, sides[0], sides[1], differences)


def _shown(result: ImageResult) -> tuple[set[int], set[int]]:
    """The places of the objects that are drawn on either side: of a pair both, where one has the score."""
    sides = [
        {place for place, score in enumerate(found.scores.tolist()) if score >= SHOWN_SCORE}
        for found in (result.official, result.ours)
    ]
    if not any(sides):
        sides = [set(range(min(FEWEST, len(found.scores)))) for found in (result.official, result.ours)]
    for one, other in result.pairing.pairs:
        if one in sides[0] or other in sides[1]:
            sides[0].add(one)
            sides[1].add(other)
    return sides[0], sides[1]


def _side(
    pixels: NDArray[np.uint8],
    scale: float,
    found: OfficialDetections,
    places: Iterable[int],
    numbers: Mapping[int, int],
    config: Config,
) -> Drawing:
    height, width = pixels.shape[:2]
    every = {place: _object(found, place, scale, numbers.get(place), config) for place in sorted(places)}
    objects = {place: each for place, each in every.items() if inside_picture(each.box, width, height)}
    marked = [objects[place] for place in numbers if place in objects]
    banded = _with_bands(pixels, [each.box for each in marked])
    # The first are on top, and their labels are placed first: those that differ.
    in_turn = [
        *marked,
        *(each for place, each in objects.items() if place not in numbers),
    ]
    encoded = io.BytesIO()
    draw_boxes(banded, in_turn).save(encoded, "JPEG", quality=QUALITY, subsampling=WHOLE_COLOURS)
    return Drawing(encoded.getvalue(), len(objects), len(found.scores))


def _object(found: OfficialDetections, place: int, scale: float, number: int | None, config: Config) -> Drawn:
    top, left, bottom, right = (float(value) * scale for value in found.boxes[place])
    name = category_name(int(found.categories[place]), config)
    label = f"{name} {found.scores[place]:.2f}"
    return Drawn((left, top, right, bottom), name, label if number is None else f"[{number}] {label}")


def _with_bands(pixels: NDArray[np.uint8], boxes: Sequence[Box]) -> NDArray[np.uint8]:
    """A copy with a band of black and white dashes around each box, wide enough to be seen beside its outline.

    Some of each box must be in the picture.
    """
    picture = Picture.fromarray(pixels)
    canvas = ImageDraw.Draw(picture)
    width, height = picture.size
    for box in boxes:
        left, right = (float(np.clip(value, BAND, max(BAND, width - 1 - BAND))) for value in box[::2])
        top, bottom = (float(np.clip(value, BAND, max(BAND, height - 1 - BAND))) for value in box[1::2])
        outer = (left - BAND, top - BAND, max(left, right) + BAND, max(top, bottom) + BAND)
        canvas.rectangle(outer, outline="black", width=2 * BAND + 1)
        for start in np.arange(outer[0], outer[2], 2 * DASH):
            end = min(start + DASH, outer[2])
            canvas.rectangle((start, outer[1], end, outer[1] + 2 * BAND), fill="white")
            canvas.rectangle((start, outer[3] - 2 * BAND, end, outer[3]), fill="white")
        for start in np.arange(outer[1], outer[3], 2 * DASH):
            end = min(start + DASH, outer[3])
            canvas.rectangle((outer[0], start, outer[0] + 2 * BAND, end), fill="white")
            canvas.rectangle((outer[2] - 2 * BAND, start, outer[2], end), fill="white")
    return np.asarray(picture)
