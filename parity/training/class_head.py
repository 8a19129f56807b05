"""What becomes of the class head of trained weights on a dataset: kept, taken class by class by name, or made anew."""

from collections.abc import Mapping
from typing import NamedTuple

from ...effdet_torch.config import Config
from ...errors import first_names
from ..datasets.renumbering import known_names, matched


class ClassHead(NamedTuple):
    """For each class of a new model the class, from 0, of the trained one whose weights it takes; None: at random."""

    rows: tuple[int | None, ...]
    said: str  # what a reader is told, a line


def class_head(trained: Config, names: Mapping[int, str], num_classes: int) -> ClassHead:
    """The class head of `num_classes` classes, of which the dataset calls number n (from 1) `names[n]`.

    Weights of a class are taken for a class of the same name alone, so that nobody's cat begins as a bolt. Weights that
    do not name their classes are kept where the number is the same.
    """
    known = known_names(trained)
    anew, kept = (None,) * num_classes, tuple(range(num_classes))
    same_number = num_classes == trained.num_classes
    found = matched(known, names) if known else None
    if known and found is None:
        return ClassHead(anew, f"made anew: {_listed(names)} instead of {_listed(known)}")
    if found is None and not same_number:
        return ClassHead(anew, f"made anew: {num_classes} classes instead of {trained.num_classes}")
    if found is None:
        said = f"kept; the weights do not name their {num_classes} classes, which are taken to be {_listed(names)}"
        return ClassHead(kept, said)
    if same_number and all(new == old for new, old in found.items()):
        few = f"{len(names)} of its {len(known)}" if len(names) < len(known) else f"same {len(names)}"
        return ClassHead(kept, f"kept, {few} classes")
    rows = tuple(found[number] - 1 if number in found else None for number in range(1, num_classes + 1))
    return ClassHead(rows, f"kept by name: {len(found)} of the weights' {len(known)} classes under their new numbers")


def _listed(names: Mapping[int, str]) -> str:
    return first_names([name for _, name in sorted(names.items())])
