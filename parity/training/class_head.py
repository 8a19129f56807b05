"""What becomes of the class head of trained weights on a dataset: kept, taken class by class by name, or made anew."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from ...effdet_torch.config import Config
from ...errors import first_names
from ..datasets.renumbering import known_names


class ClassHead(NamedTuple):
    """For each class of a new model the class, from 0, of the trained one whose weights it takes; None: at random."""

    rows: tuple[int | None, ...]
    said: str  # what a reader is told, a line


def class_head(trained: Config, names: Mapping[int, str], num_classes: int) -> ClassHead:
    """The class head of `num_classes` classes, of which the dataset calls number n (from 1) `names[n]`.

    Weights of a class are taken for a class of the same name alone, so that nobody's cat begins as a bolt; a name that
    is there twice says nothing. Weights that do not name their classes are kept where the number is the same.
    """
    known = known_names(trained)
    kept, same_number = tuple(range(num_classes)), num_classes == trained.num_classes
    if not known and same_number:
        said = f"kept; the weights do not name their {num_classes} classes, which are taken to be {_listed(names)}"
        return ClassHead(kept, said)
    if not known:
        said = f"made anew: {num_classes} classes instead of {trained.num_classes}"
        return ClassHead((None,) * num_classes, said)
    if same_number and all(known.get(number) == name for number, name in names.items()):
        few = f"{len(names)} of its {len(known)}" if len(names) < len(known) else f"same {len(names)}"
        return ClassHead(kept, f"kept, {few} classes")
    numbers = {name: number for number, name in _single(known).items()}
    found = {new: numbers[name] for new, name in _single(names).items() if name in numbers}
    rows = tuple(found[number] - 1 if number in found else None for number in range(1, num_classes + 1))
    if not found:
        return ClassHead(rows, f"made anew: {_listed(names)} instead of {_listed(known)}")
    others = {number: name for number, name in names.items() if number not in found}
    begun = f"; at random: {_listed(others)}" if others else ""
    return ClassHead(rows, f"kept by name: {_listed({number: names[number] for number in found})}{begun}")


def _single(names: Mapping[int, str]) -> dict[int, str]:
    """Those that no other number has."""
    count = Counter(names.values())
    return {number: name for number, name in names.items() if name and count[name] == 1}


def _listed(names: Mapping[int, str]) -> str:
    return first_names([name for _, name in sorted(names.items())])
