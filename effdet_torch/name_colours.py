"""Colours of categories, by name: always the same for a name, and far apart for those that are seen together most."""

import functools
import zlib

import numpy as np
from numpy.typing import NDArray

from .categories import COCO_CATEGORIES

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255 (sRGB)

# Of `effconv shapes`, in the order of their ids.
DRAWN_SHAPES = ("disc", "square", "triangle", "star", "ring", "cross", "arrow", "half disc")
FIRST: Colour = (0, 85, 255)  # blue; every other colour is chosen far from those before it
STEPS = (0, 51, 85, 119, 153, 187, 221, 255)  # of each channel of a colour that may be chosen
LEAST_CHROMA = 0.11  # greyer ones are lost on photographs
LIGHTNESS = (0.42, 0.9)  # darker and lighter ones likewise


def oklab(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, 3) colours in OKLab, where equal distances look equally different (B. Ottosson, "A perceptual color space
    for image processing", 2020): lightness 0 to 1, green to red, blue to yellow.
    """
    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    found: NDArray[np.float64] = np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
    return found


def name_colour(name: str) -> Colour:
    """Always the same colour for a category of this name, whatever its number in a model or a dataset.

    COCO's names, and those of the shapes that effconv draws, have the palette's first colours in their order, which are
    the further apart the fewer there are. A checksum chooses for any other name.
    """
    colours = palette()
    number = _known().get(name)
    return colours[zlib.crc32(name.encode(errors="surrogatepass")) % len(colours) if number is None else number]


@functools.cache
def _known() -> dict[str, int]:
    return {name: number for names in (COCO_CATEGORIES.values(), DRAWN_SHAPES) for number, name in enumerate(names)}


@functools.cache
def palette() -> tuple[Colour, ...]:
    """All colours that are used, each as far as possible from the nearest of those before it."""
    grid = np.stack(np.meshgrid(STEPS, STEPS, STEPS, indexing="ij"), -1).reshape(-1, 3).astype(np.uint8)
    points = oklab(grid)
    least, most = LIGHTNESS
    kept = (np.hypot(points[:, 1], points[:, 2]) >= LEAST_CHROMA) & (points[:, 0] >= least) & (points[:, 0] <= most)
    grid, points = grid[kept], points[kept]
    distances = np.linalg.norm(points - oklab(np.array([FIRST], np.uint8)), axis=1)
    chosen = [FIRST]
    while len(chosen) < len(grid):
        # Rounded, so that the last bits of another processor's roots change no choice between equals.
        place = int(np.argmax(np.round(distances, 9)))
        red, green, blue = grid[place].tolist()
        chosen.append((red, green, blue))
        distances = np.minimum(distances, np.linalg.norm(points - points[place], axis=1))
    return tuple(chosen)
