"""A dataset's categories under a model's numbers, 1 to N: by their names, or anew in the order of their ids."""

import dataclasses
from collections.abc import Mapping

from ...effdet_torch.categories import COCO_CATEGORIES, COCO_CLASSES
from ...effdet_torch.config import Config
from ...errors import first_names
from .dataset import Dataset, DatasetError


def known_names(config: Config) -> dict[int, str]:
    """The names a model has for its categories: its own, COCO's where it has 90 classes, or none."""
    if config.class_names:
        return {number: name for number, name in enumerate(config.class_names, 1) if name}
    return dict(COCO_CATEGORIES) if config.num_classes == COCO_CLASSES else {}


def matched(known: Mapping[int, str], categories: Mapping[int, str]) -> dict[int, int] | None:
    """{dataset's id: model's} where every name of the dataset is one of the model's; None where one is not.

    Where a name is there twice, the names in the order of their ids must be the model's.
    """
    if len(set(known.values())) == len(known) and len(set(categories.values())) == len(categories):
        numbers = {name: number for number, name in known.items()}
        if all(name in numbers for name in categories.values()):
            return {number: numbers[name] for number, name in categories.items()}
        return None
    ours, theirs = sorted(known.items()), sorted(categories.items())
    if [name for _, name in ours] != [name for _, name in theirs]:
        return None
    return {number: new for (number, _), (new, _) in zip(theirs, ours, strict=True)}


def training_numbers(dataset: Dataset, config: Config, num_classes: int | None) -> dict[int, int]:
    """{dataset's id: the id it is trained under}. A model's own numbers are kept where its names are the dataset's, or
    where it has no names and the ids fit; else the ids are counted anew from 1. With `num_classes` ids that fit are
    kept as they are. Raises DatasetError where there are more categories than that.
    """
    ids = sorted(dataset.categories)
    kept = {number: number for number in ids}
    fit = ids[0] >= 1 and ids[-1] <= (num_classes or config.num_classes)
    known = known_names(config)
    if fit and (num_classes or not known or all(known.get(number) == dataset.categories[number] for number in ids)):
        return kept
    if not num_classes and known and (found := matched(known, dataset.categories)):
        return found
    if num_classes and len(ids) > num_classes:
        raise DatasetError(
            f"{dataset.path}: {len(ids)} categories, and {num_classes} classes to train: {shown(dataset.categories)}; "
            "give as many classes, or leave their number out",
            parameters={"num_classes": str(len(ids))},
        )
    return {number: place for place, number in enumerate(ids, 1)}


def renumbered(dataset: Dataset, numbers: Mapping[int, int]) -> Dataset:
    """The dataset with its categories under these numbers."""
    if all(old == new for old, new in numbers.items()):
        return dataset
    return dataclasses.replace(
        dataset,
        categories={numbers[number]: dataset.categories[number] for number in sorted(numbers, key=numbers.__getitem__)},
        annotations=tuple({**each, "category_id": numbers[each["category_id"]]} for each in dataset.annotations),
    )


def shown(categories: Mapping[int, str]) -> str:
    """Names and ids for a message, the first few."""
    return first_names([f"{name} (id {number})" for number, name in sorted(categories.items())])


def mapping_text(numbers: Mapping[int, int], categories: Mapping[int, str]) -> str:
    """Which category is trained or evaluated as which: `1 cat (id 0), 2 dog (id 1)`, the first few."""
    rows = sorted((new, categories[old], old) for old, new in numbers.items())
    return first_names([f"{new} {name} (id {old})" for new, name, old in rows])
