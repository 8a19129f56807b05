"""Boxes with names and scores on a picture.

Sizes follow the picture's: lines and text look alike on a thumbnail and on a poster. Everything stays inside it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .label_places import Place, free_place
from .name_colours import Colour, name_colour
from .prediction import Prediction

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Box = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in pixels

LINE = 1 / 300  # of the picture's size, the square root of its area
TEXT = 1 / 45
SMALLEST_TEXT = 7  # pixels; smaller text cannot be read
LARGEST_TEXT = 200
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def text_colour(background: Colour) -> Colour:
    """Black or white, whichever has more contrast on `background` (relative luminance of WCAG 2, section 1.4.3)."""
    linear = [(value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4) for value in background]
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return BLACK if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else WHITE


class Drawn(NamedTuple):
    """What is drawn: a box, the name of the category, whose colour it has, and its label."""

    box: Box
    name: str
    label: str


def draw(pixels: NDArray[np.uint8], prediction: Prediction) -> Image.Image:
    """A copy of (H, W, 3) RGB `pixels` with the objects and their scores drawn, the best on top. See `draw_boxes`."""
    return draw_boxes(pixels, [Drawn(each.box, each.name, f"{each.name} {each.score:.2f}") for each in prediction])


def draw_boxes(pixels: NDArray[np.uint8], objects: Sequence[Drawn]) -> Image.Image:
    """A copy of (H, W, 3) RGB `pixels` with boxes and labels drawn, the first on top.

    Boxes are cut off at the picture's edges; those wholly outside and those that are not finite are left out. Labels
    are over all boxes and over no other label; where there is no room they are moved along the box and made smaller.
    One that would be unreadable, or over another however it is placed, is left out; the first are placed first.
    """
    picture = Image.fromarray(pixels)
    height, width = pixels.shape[:2]
    size = math.sqrt(width * height)
    line = max(1, round(size * LINE))
    canvas = ImageDraw.Draw(picture)
    seen = [(each, inside) for each in objects if (inside := inside_picture(each.box, width, height))]
    for each, inside in reversed(seen):
        canvas.rectangle(inside, outline=name_colour(each.name), width=line)
    taken: list[Place] = []
    for each, inside in seen:
        if place := _label(canvas, each.label, inside, name_colour(each.name), (width, height), size * TEXT, taken):
            taken.append(place)
    return picture


def inside_picture(box: Box, width: int, height: int) -> Box | None:
    """The part of a box that is inside the picture, as its first and last pixels; None when there is none."""
    xmin, ymin, xmax, ymax = box
    if not all(map(math.isfinite, box)) or xmin >= width or ymin >= height or xmax <= 0 or ymax <= 0:
        return None
    xmin, ymin = max(xmin, 0), max(ymin, 0)
    xmax, ymax = min(xmax, width - 1), min(ymax, height - 1)
    return min(xmin, xmax), min(ymin, ymax), max(xmin, xmax), max(ymin, ymax)


def _label(
    canvas: ImageDraw.ImageDraw,
    text: str,
    box: Box,
    colour: Colour,
    size: tuple[int, int],
    wanted: float,
    taken: Sequence[Place],
) -> Place | None:
    """Draw a label as large as there is room for; the place it takes, None where there is none."""
    for points in _text_sizes(wanted):
        font: Font = ImageFont.load_default(points)
        left, top, right, bottom = font.getbbox(text)
        margin = max(1, points // 6)
        needed = math.ceil(right - left) + 2 * margin, math.ceil(bottom - top) + 2 * margin
        place = free_place(needed, box, size, taken)
        if place:
            x, y = place.x, place.y
            canvas.rectangle((x, y, x + place.width - 1, y + place.height - 1), fill=colour)
            canvas.text((x + margin - left, y + margin - top), text, font=font, fill=text_colour(colour))
            return place
    return None


def _text_sizes(wanted: float) -> list[int]:
    """Text heights to try, in pixels, from the wanted one down to the smallest that can be read."""
    largest = min(max(SMALLEST_TEXT + 5, round(wanted)), LARGEST_TEXT)
    sizes = []
    while largest > SMALLEST_TEXT:
        sizes.append(largest)
        largest = largest * 3 // 4
    return [*sizes, SMALLEST_TEXT]
