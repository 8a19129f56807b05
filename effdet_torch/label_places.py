"""Where a label goes on a picture: at its box, inside the picture, and over no other label."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

STEPS = 8  # places along each side of a box


class Place(NamedTuple):
    """A rectangle of whole pixels."""

    x: int
    y: int
    width: int
    height: int

    def meets(self, other: "Place") -> bool:
        """Whether a pixel belongs to both."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


def free_place(
    size: tuple[int, int], box: tuple[float, float, float, float], picture: tuple[int, int], taken: Sequence[Place]
) -> Place | None:
    """The first place for a label of `size` (width, height) at `box` that meets none of `taken`; None without any.

    Above the box, or inside its top where there is no room; then along its other sides. Sizes have the width first.
    """
    if size[0] > picture[0] or size[1] > picture[1]:
        return None
    for x, y in _corners(size, box):
        place = Place(min(max(x, 0), picture[0] - size[0]), min(max(y, 0), picture[1] - size[1]), *size)
        if y >= 0 and not any(place.meets(other) for other in taken):
            return place
    return None


def _corners(size: tuple[int, int], box: tuple[float, float, float, float]) -> Iterator[tuple[int, int]]:
    """Upper left corners, the best first: those above come with a y below 0 where there is no room."""
    width, height = size
    left, top, right, bottom = map(int, box)
    along = [left + (right - width - left) * step // STEPS for step in range(STEPS + 1)]
    down = [top + (bottom - height - top) * step // STEPS for step in range(STEPS + 1)]
    for y in (top - height, top, bottom + 1, bottom - height):
        yield from ((x, y) for x in along)
    for x in (right + 1, left - width):
        yield from ((x, y) for y in down)
