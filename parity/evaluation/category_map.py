"""Which of a model's categories is which of a dataset's."""

import json
from collections.abc import Mapping
from pathlib import Path

from ...effdet_torch.categories import COCO_CATEGORIES
from ...effdet_torch.config import Config
from ..datasets.dataset import Dataset, DatasetError


def choose_categories(config: Config, dataset: Dataset, path: Path | None) -> Mapping[int, int]:
    """{model's category id (channel + 1): dataset's category id}; ids left out stay as they are.

    Raises DatasetError when the model cannot have been trained on the dataset's categories and no map says which is
    which: other names than COCO's for a model of COCO's 90 channels, ids beyond its channels for any other.
    """
    if path is not None:
        return _read(path, config, dataset)
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
