"""A layout: which splits of a dataset there are, and how one is read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import first_names
from .dataset import DEFAULT_SPLIT, Dataset, DatasetError

# Names that splits go by, in the order in which they are taken when nobody names one.
TRAINED_ON = ("train2017", "train")
EVALUATED_ON = (DEFAULT_SPLIT, "valid", "val")


class Layout(NamedTuple):
    """A dataset as it lies on disk."""

    title: str  # whose way of laying a dataset out it is
    place: Path
    splits: Sequence[str]
    expected: str  # where a split is, with SPLIT for its name
    read: Callable[[str], Dataset]

    def preferred(self, names: Sequence[str]) -> str | None:
        """The first of `names` that is a split here."""
        return next((name for name in names if name in self.splits), None)

    def choose(self, split: str | None, names: Sequence[str]) -> str:
        """The split named, or the first of `names` there is, or the only one. Raises DatasetError naming those there
        are.
        """
        chosen = split or self.preferred(names) or (self.splits[0] if len(self.splits) == 1 else None)
        if chosen in self.splits:
            return str(chosen)
        raise DatasetError(
            f"{self.place}: expected {self.expected.replace('SPLIT', split or ' or '.join(names))} ({self.title}), "
            f"found {first_names(list(self.splits)) or 'no split'}; name another split",
            parameters={"split": None},
        )
