"""Drawn shapes as pictures with known objects: small, offline, and hard enough that metrics on them mean something.

Eight categories whose ids have gaps, as COCO's do; objects of 6 to 120 pixels, turned and overlapping, on
textured backgrounds with noise; some pictures are empty, some hold a crowd that counts as one object.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ...convert.output import replacing
from ...convert.output_kinds import ANNOTATIONS, PICTURE, SHAPES, Kind
from ...errors import EffconvError
from ...strict_json import json_text
from ..pictures import write_picture
from .dataset import ANNOTATION_PREFIX

JPEG_QUALITY = 90
LEAST_SIDE = 32

SMALLEST, LARGEST = 6, 120  # pixels, of an object's longer side, before it is turned
FINENESS = 4  # pixels drawn per pixel kept, for smooth edges
MOST_OBJECTS = 7
EMPTY_SHARE, CROWD_SHARE = 0.04, 0.06  # of the pictures
LEAST_SEEN = 0.5  # of an object: what would cover more of one that is there already is not drawn
LEAST_AREA = 9  # pixels seen of an object
NOISE = (2.0, 14.0)  # standard deviation, in grey levels, from picture to picture

Points = list[tuple[float, float]]


def _arc(start: float, end: float, radius: float, steps: int = 40) -> Points:
    """An arc around the origin."""
    return [(float(radius * np.cos(angle)), float(radius * np.sin(angle))) for angle in np.linspace(start, end, steps)]


def _corners(count: int, inner: float = 1.0) -> Points:
    """A regular polygon in the unit circle; with `inner` below 1 a star with that inner radius."""
    steps = count if inner == 1 else 2 * count
    radii = [1.0 if step % 2 == 0 else inner for step in range(steps)]
    angles = [2 * np.pi * step / steps for step in range(steps)]
    return [(float(r * np.sin(angle)), float(-r * np.cos(angle))) for r, angle in zip(radii, angles, strict=True)]


# Outlines in the unit circle; a second one is cut out of the first.
OUTLINES: dict[str, list[Points]] = {
    "disc": [_arc(0, 2 * np.pi, 1)],
    "square": [_corners(4)],
    "triangle": [_corners(3)],
    "star": [_corners(5, 0.45)],
    "ring": [_arc(0, 2 * np.pi, 1), _arc(0, 2 * np.pi, 0.55)],
    "cross": [
        [
            *((-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3)),
            *((0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3)),
        ]
    ],
    "arrow": [[(0, -1), (0.7, -0.1), (0.28, -0.1), (0.28, 0.95), (-0.28, 0.95), (-0.28, -0.1), (-0.7, -0.1)]],
    "half disc": [_arc(0, np.pi, 1)],
}
CATEGORIES = dict(zip((1, 2, 4, 5, 7, 8, 10, 11), OUTLINES, strict=True))


class Drawn(NamedTuple):
    """One object: what is seen of it as a mask (H, W), or of a crowd of one category."""

    category: int
    mask: NDArray[np.bool_]
    crowd: bool = False

    @property
    def box(self) -> list[float]:
        """[x, y, width, height] of what is seen, in pixels."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return [float(columns[0]), float(rows[0]), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)]


class Picture(NamedTuple):
    """(H, W, 3) uint8 and the objects in it, those drawn first before those that may cover them."""

    pixels: NDArray[np.uint8]
    objects: list[Drawn]


def draw_picture(seed: int, number: int, size: tuple[int, int]) -> Picture:
    """Picture `number` of the dataset of `seed`, `size` (height, width) pixels; the same whichever others are drawn."""
    random = np.random.default_rng([seed, number])
    pixels = _background(random, size)
    kind = random.random()
    objects: list[Drawn] = []
    if EMPTY_SHARE <= kind < EMPTY_SHARE + CROWD_SHARE:
        category = _category(random)
        place = random.uniform(0.2, 0.8, 2) * size
        reach = 0.15 * min(size)
        for _ in range(int(random.integers(12, 25))):
            coverage = _coverage(random, category, random.uniform(5, 12), place + random.normal(0, reach, 2), size)
            pixels = _paint(random, pixels, coverage)
            objects = [_covered(each, coverage) for each in objects] + [Drawn(category, coverage > 0.5, crowd=True)]
        together = np.logical_or.reduce([each.mask for each in objects])
        objects = [Drawn(category, together, crowd=True)] if together.any() else []
    for _ in range(0 if kind < EMPTY_SHARE else int(random.integers(1, MOST_OBJECTS + 1))):
        category = _category(random)
        length = random.uniform(SMALLEST**0.5, min(LARGEST, 0.9 * min(size)) ** 0.5) ** 2  # small ones are more
        place = random.uniform(length / 4, np.array(size) - length / 4)  # about two thirds at least are in the picture
        coverage = _coverage(random, category, float(length), place, size)
        seen = [_covered(each, coverage) for each in objects]
        pairs = zip(objects, seen, strict=True)
        drawn = Drawn(category, coverage > 0.5)
        if drawn.mask.sum() < LEAST_AREA or any(_hidden(before, after) for before, after in pairs):
            continue
        pixels = _paint(random, pixels, coverage)
        objects = [*seen, drawn]
    noisy = pixels + random.normal(0, random.uniform(*NOISE), pixels.shape)
    return Picture(noisy.clip(0, 255).astype(np.uint8), objects)


def _hidden(before: Drawn, after: Drawn) -> bool:
    return bool(after.mask.sum() < max(LEAST_AREA, LEAST_SEEN * before.mask.sum()))


def _category(random: np.random.Generator) -> int:
    return int(random.choice(list(CATEGORIES)))


def _covered(drawn: Drawn, coverage: NDArray[np.float64]) -> Drawn:
    return drawn._replace(mask=drawn.mask & (coverage <= 0.5))


def _background(random: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
    """Two colours mixed by blurred noise of some coarseness, with a slope of brightness."""
    coarseness = int(random.integers(3, 24))
    grid = random.random((size[0] // coarseness + 2, size[1] // coarseness + 2)) * 255
    texture = Image.fromarray(grid.astype(np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
    share = np.asarray(texture.filter(ImageFilter.GaussianBlur(coarseness / 4)), np.float64)[..., None] / 255
    first, second = random.uniform(20, 235, (2, 3))
    slope = np.linspace(-1, 1, size[0])[:, None, None] * random.uniform(-30, 30)
    found: NDArray[np.float64] = first * share + second * (1 - share) + slope
    return found


def _coverage(
    random: np.random.Generator, category: int, length: float, place: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """(H, W) share of each pixel that a shape covers: turned at random, centred on `place` (y, x), cut at the edge."""
    angle, stretch = random.uniform(0, 2 * np.pi), random.uniform(0.7, 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    canvas = Image.new("L", (size[1] * FINENESS, size[0] * FINENESS))
    draw = ImageDraw.Draw(canvas)
    for outline, shade in zip(OUTLINES[CATEGORIES[category]], (255, 0), strict=False):
        points = np.array(outline) * (length / 2, length / 2 * stretch) @ turn.T + place[::-1]
        draw.polygon([(float(x), float(y)) for x, y in points * FINENESS], fill=shade)
    return np.asarray(canvas.reduce(FINENESS), np.float64) / 255


def _paint(
    random: np.random.Generator, pixels: NDArray[np.float64], coverage: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The picture with a shape on it, of a colour that differs enough from what it is put on."""
    under = pixels[coverage > 0.5].mean(0) if (coverage > 0.5).any() else np.full(3, 128.0)
    colour = random.uniform(0, 255, 3)
    while np.abs(colour - under).max() < 40:
        colour = random.uniform(0, 255, 3)
    shading = 1 + random.uniform(-0.15, 0.15) * np.linspace(-1, 1, pixels.shape[1])[None, :, None]
    return pixels * (1 - coverage[..., None]) + colour * shading * coverage[..., None]


def _picture_name(number: int) -> str:
    return f"{number + 1:06d}.jpg"


def _annotations_path(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"{ANNOTATION_PREFIX}{split}.json"


def shapes_outputs(folder: Path, split: str, images: int) -> dict[Path, Kind]:
    """The files that `write_shapes` will write."""
    pictures = {folder / split / _picture_name(number): PICTURE for number in range(images)}
    return {_annotations_path(folder, split): ANNOTATIONS, **pictures}


def write_shapes(
    folder: Path,
    split: str,
    images: int,
    seed: int,
    size: tuple[int, int],
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write FOLDER/SPLIT/*.jpg and FOLDER/annotations/instances_SPLIT.json; returns counts.

    The same arguments give the same files, and the first N pictures do not depend on how many follow. The annotations
    come last, so that a dataset that has them is whole. Raises EffconvError for sizes too small to hold a shape.
    """
    if min(size) < LEAST_SIDE:
        raise EffconvError(
            f"pictures of {size[0]}x{size[1]}: expected sides of at least {LEAST_SIDE} pixels",
            parameters={"size": None},
        )
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(images):
        picture = draw_picture(seed, number, size)
        name = _picture_name(number)
        write_picture(Image.fromarray(picture.pixels), folder / split / name, "JPEG", quality=JPEG_QUALITY)
        entries.append({"id": number + 1, "file_name": name, "height": size[0], "width": size[1]})
        for drawn in picture.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": drawn.category,
                    "bbox": drawn.box,
                    "area": int(drawn.mask.sum()),
                    "iscrowd": int(drawn.crowd),
                }
            )
        if report:
            report(number + 1, images)
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    data = {
        "info": {"description": f"{SHAPES}{seed}, {size[0]}x{size[1]}"},
        "images": entries,
        "annotations": annotations,
        "categories": categories,
    }
    path = _annotations_path(folder, split)
    with replacing(path) as (file,):
        file.write_text(json_text(data) + "\n", encoding="utf-8")
    return {"annotations": str(path), "images": len(entries), "objects": len(annotations)}
