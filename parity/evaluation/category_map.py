"""Which of a model's categories is which of a dataset's."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

from ...effdet_torch.categories import COCO_CATEGORIES
from ...effdet_torch.config import Config
from ..datasets.dataset import Dataset, DatasetError
from ..datasets.renumbering import known_names, mapping_text, matched, shown


class CategoryWarning(UserWarning):
    """Categories that are taken for one another by their names."""


def choose_categories(config: Config, dataset: Dataset, path: Path | None) -> Mapping[int, int]:
    """{model's category id (channel + 1): dataset's category id}; ids left out stay as they are.

    Where the ids differ and the model has every name of the dataset, names say which is which (CategoryWarning). Raises
    DatasetError when the model cannot have been trained on the dataset's categories and no map says which is which:
    other names than the model's own, or COCO's for a model of COCO's 90 channels, or ids beyond its channels.
    """
    if path is not None:
        return _read(path, config, dataset)
    known = known_names(config)
    differing = {number for number, name in dataset.categories.items() if known.get(number) != name}
    if known and differing:
        if numbers := matched(known, dataset.categories):
            found = mapping_text(numbers, dataset.categories)
            warnings.warn(f"{dataset.path}: categories are matched by name: {found}", CategoryWarning, stacklevel=2)
            return _complete({ours: theirs for theirs, ours in numbers.items()}, config, dataset)
        if config.class_names:
            raise DatasetError(
                f"{dataset.path}: {config.name} detects {shown(known)}, the dataset has {shown(dataset.categories)}; "
                "give a map of categories, or the dataset it was trained for",
                parameters={"category_map": "MAP.json"},
            )
    beyond = [number for number in dataset.categories if not 1 <= number <= config.num_classes]
    if beyond:
        raise DatasetError(
            f"{dataset.path}: category {beyond[0]} ({dataset.categories[beyond[0]]}) is none that {config.name} "
            f"detects, ids 1 to {config.num_classes}; give a map of categories",
            parameters={"category_map": "MAP.json"},
        )
    if config.num_classes == 90:
        for number, name in dataset.categories.items():
            if name != COCO_CATEGORIES.get(number):
                raise DatasetError(
                    f"{dataset.path}: category {number} is {name!r}, in COCO {COCO_CATEGORIES.get(number)!r}; "
                    f"{config.name} detects COCO's categories: give a map of categories",
                    parameters={"category_map": "MAP.json"},
                )
    return {}


def _complete(found: dict[int, int], config: Config, dataset: Dataset) -> Mapping[int, int]:
    """With numbers that the dataset does not have for the model's other categories, which are none of it."""
    beyond = max(dataset.categories)
    return {ours: found.get(ours, beyond + ours) for ours in range(1, config.num_classes + 1)}


def _read(path: Path, config: Config, dataset: Dataset) -> Mapping[int, int]:
    try:
        given = json.loads(path.read_bytes())
        found = {int(key): value for key, value in given.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DatasetError(f'{path}: expected {{"model category id": dataset category id}} ({error})') from error
    for ours, theirs in found.items():
        known = type(theirs) is int and theirs in dataset.categories
        if not known or not 1 <= ours <= config.num_classes:
            raise DatasetError(
                f"{path}: {ours} -> {theirs}: expected a category id from 1 to {config.num_classes} of {config.name} "
                f"and one of {dataset.path.name}"
            )
    return found
