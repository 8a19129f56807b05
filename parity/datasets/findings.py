"""What a check of a dataset may find: each kind by name, with what it means, what to do, and whether it is serious.

Serious is what ends a training, or makes it learn or a metric measure something else than was meant; everything else
is a note, which may be as it should be.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..plain import Plain

EXAMPLES = 5  # of each finding


class Kind(NamedTuple):
    """A kind of finding: whether it is serious, what is counted, what it means and what to do."""

    serious: bool
    of: str
    meaning: str
    remedy: str


CORNERS = "boxes given by their corners"
SHARES = "boxes in shares of their picture"
NO_AREA = "boxes without area"
OUTSIDE = "boxes beyond their picture"
TINY = "boxes tiny after resizing"
DUPLICATE_BOXES = "boxes given twice"
DUPLICATE_IDS = "annotation ids given twice"
MISSING = "missing files"
UNREADABLE = "unreadable pictures"
OTHER_SIZE = "pictures of another size than annotated"
TURNED = "pictures with an EXIF orientation"
SAME_PICTURE = "pictures given twice"
SAME_IN_SPLITS = "pictures in two splits"
EMPTY = "pictures without boxes"
NOTHING = "no box at all"
FROM_ZERO = "category ids below 1"
UNUSED = "categories without boxes"
FEW = "categories with few boxes"
ALIKE = "category names that are nearly the same"

KINDS = {
    CORNERS: Kind(
        True,
        "boxes",
        "read as [x, y, width, height] many leave their picture; read as [x1, y1, x2, y2] none does",
        "write widths and heights: x2 - x1, y2 - y1",
    ),
    SHARES: Kind(
        True,
        "boxes",
        "no coordinate is above 1: these are shares of the picture, and pixels are expected",
        "multiply by the picture's width and height",
    ),
    NO_AREA: Kind(True, "boxes", "their width or height is zero or negative", "correct them or take them out"),
    OUTSIDE: Kind(
        True,
        "boxes",
        "they reach more than a pixel beyond the picture; training cuts them off, evaluation does not",
        "correct them; all of a picture may be on another scale",
    ),
    TINY: Kind(
        False,
        "boxes",
        "at the model's input size their shorter side is below 2 pixels, the stride of its first convolution",
        "take a model with a larger input, cut pictures into parts, or take these boxes out",
    ),
    DUPLICATE_BOXES: Kind(
        False,
        "boxes",
        "same picture, category and place; a detector that finds the object once is counted as missing the rest",
        "keep one of each",
    ),
    DUPLICATE_IDS: Kind(True, "boxes", "another annotation has the same id; here each counts", "give ids of their own"),
    MISSING: Kind(
        True, "images", "the annotations name files that are not there", "put them there, or take their entries out"
    ),
    UNREADABLE: Kind(True, "images", "the files cannot be decoded", "restore them, or encode them again"),
    OTHER_SIZE: Kind(
        True,
        "images",
        "the file's size counts, and boxes that were drawn on the annotated size are then in the wrong place",
        "correct the sizes in the annotations, or the boxes with them",
    ),
    TURNED: Kind(
        False,
        "images",
        "the orientation is ignored, as TensorFlow ignores it: boxes refer to the pixels as they are stored",
        "store the pixels upright, if the boxes were drawn on the turned picture",
    ),
    SAME_PICTURE: Kind(False, "images", "another file of the split has the same bytes", "keep one of each"),
    SAME_IN_SPLITS: Kind(
        True,
        "images",
        "another split has a file of the same bytes: what is trained on one is not measured fairly on the other",
        "keep each picture in one split",
    ),
    EMPTY: Kind(
        False, "images", "nothing is marked in them; they teach what is background", "see that nothing was forgotten"
    ),
    NOTHING: Kind(True, "images", "there is nothing to measure on or to learn from", "annotate the pictures"),
    FROM_ZERO: Kind(
        False,
        "categories",
        "a model's classes are numbered from 1; `train` counts them anew and keeps their names, other programs may not",
        "nothing, if you train with effconv; else add 1 to every id",
    ),
    UNUSED: Kind(
        False,
        "categories",
        "no box has their id; where the last or the first one is unused, ids may be off by one",
        "compare names with pictures, or leave the categories out",
    ),
    FEW: Kind(
        False,
        "categories",
        "below 10 boxes: one more or less that is found moves their recall by a tenth or more",
        "annotate more of them before you read anything from their AP",
    ),
    ALIKE: Kind(
        False,
        "categories",
        "they differ in case, spaces, hyphens or underscores alone",
        "give all their boxes one of the ids, if they mean the same",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Example(Plain):
    """One of what was found: a file or a category, the annotation's own id, and the values at fault."""

    where: str
    annotation: str = ""
    values: str = ""

    @property
    def line(self) -> str:
        """The example in a line."""
        annotation = f"annotation {self.annotation}" if self.annotation else ""
        return ", ".join(part for part in (self.where, annotation, self.values) if part)


@dataclass(frozen=True, kw_only=True)
class Finding(Plain):
    """One kind of what was found: `count` of `total` boxes, images or categories (`of`)."""

    name: str
    serious: bool
    count: int
    total: int
    of: str
    meaning: str
    remedy: str
    examples: tuple[Example, ...]


def found(name: str, total: int, examples: Iterable[Example]) -> list[Finding]:
    """The finding of that name of all `examples`, of which it keeps the first; none where there is none."""
    all_of_them = list(examples)
    if not all_of_them:
        return []
    kind = KINDS[name]
    return [
        Finding(
            name=name,
            serious=kind.serious,
            count=len(all_of_them),
            total=total,
            of=kind.of,
            meaning=kind.meaning,
            remedy=kind.remedy,
            examples=tuple(all_of_them[:EXAMPLES]),
        )
    ]
