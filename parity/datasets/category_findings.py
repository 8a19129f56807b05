"""Findings about categories: ids that no model has, unused ones, rare ones, and names that are nearly the same."""

import re
from collections import Counter

from .boxes import Boxes
from .dataset import Dataset
from .findings import ALIKE, FEW, FROM_ZERO, UNUSED, Example, Finding, found

FEW_BOXES = 10  # with fewer, one box is more than a tenth of the category's recall


def category_findings(dataset: Dataset, boxes: Boxes) -> list[Finding]:
    """All findings about categories. Of a dataset without boxes nothing is said about how many a category has."""
    counts = Counter(boxes.categories[~boxes.crowd].tolist())
    names = dataset.categories

    def examples(ids: list[int], values: str = "") -> list[Example]:
        return [Example(where=f"category {each} ({names[each]})", values=values.format(counts[each])) for each in ids]

    present = bool(len(boxes))
    unused = [each for each in names if present and not (boxes.categories == each).any()]
    few = sorted((each for each in names if 0 < counts[each] < FEW_BOXES), key=lambda each: counts[each])
    return [
        *found(FROM_ZERO, len(names), examples([each for each in names if each < 1])),
        *found(UNUSED, len(names), examples(unused)),
        *found(FEW, len(names), examples(few, "boxes: {}")),
        *found(ALIKE, len(names), examples(_alike(dataset))),
    ]


def _alike(dataset: Dataset) -> list[int]:
    """Ids whose name another one nearly has, those of a name together."""
    same: dict[str, list[int]] = {}
    for number, name in dataset.categories.items():
        same.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), []).append(number)
    return [number for ids in same.values() if len(ids) > 1 for number in ids]
