"""A dataset as examples to train on: decoded, augmented, and labelled anchor by anchor."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.postprocessing.anchors import official_anchors
from ...effdet_torch.preprocessing.decode import decode, read_encoded
from ...effdet_torch.training.augment import Augmentation, augment, draw, unchanged
from ...effdet_torch.training.targets import Targets, label_anchors
from ...errors import ImageError
from ..datasets.dataset import Dataset, DatasetError

KEPT_BYTES = 512 << 20  # decoded images are kept in memory when all of them are no more


def require_images(dataset: Dataset) -> None:
    """Raises DatasetError when a file of the dataset's images is not there. No file is read."""
    missing = [image.path for image in dataset.images if not image.path.is_file()]
    if missing:
        raise DatasetError(
            f"{missing[0]}: not there; {len(missing)} of the {len(dataset.images)} images in {dataset.path} are "
            "missing; put them there, or take them out of the annotations"
        )


class TrainingSet(torch.utils.data.Dataset[tuple[Tensor, Targets]]):
    """Examples by (epoch, place of the image in the dataset); crowds are left out, as officially.

    Class c is category c + 1, as in the official models. What is drawn for an example depends on the seed, the epoch
    and the image's id alone. Raises DatasetError for categories that the model has no class for.
    """

    def __init__(self, dataset: Dataset, config: Config, *, augmentation: Augmentation | None, seed: int):
        beyond = [number for number in dataset.categories if not 1 <= number <= config.num_classes]
        if beyond:
            raise DatasetError(
                f"{dataset.path}: category {beyond[0]} ({dataset.categories[beyond[0]]}), but {config.name} has "
                f"{config.num_classes} classes, of ids 1 to {config.num_classes}; give the number of classes",
                parameters={"num_classes": None},
            )
        self.images, self.config, self.augmentation, self.seed = dataset.images, config, augmentation, seed
        self.anchors = official_anchors(config)
        self.truth = _truth(dataset)
        keeps = sum(3 * image.height * image.width for image in dataset.images) <= KEPT_BYTES
        self._decoded: dict[int, NDArray[np.uint8]] | None = {} if keeps else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Targets]:
        """Raises ImageError for an image that cannot be read."""
        epoch, place = key
        image = self.images[place]
        boxes, classes = self.truth[image.id]
        pixels = self._pixels(place)
        try:
            if self.augmentation:
                generator = np.random.default_rng([self.seed, epoch, image.id])
                example = augment(pixels, boxes, classes, self.config, draw(self.augmentation, generator))
            else:
                example = unchanged(pixels, boxes, classes, self.config)
        except ImageError as error:
            raise ImageError(f"{image.path}: {error}", parameters=error.parameters) from error
        targets = label_anchors(torch.from_numpy(example.boxes), torch.from_numpy(example.classes), self.anchors)
        return torch.from_numpy(example.image), targets

    def _pixels(self, place: int) -> NDArray[np.uint8]:
        kept = self._decoded
        if kept is not None and place in kept:
            return kept[place]
        path = self.images[place].path
        pixels = decode(read_encoded(path), name=str(path))
        if kept is not None:
            kept[place] = pixels
        return pixels


def _truth(dataset: Dataset) -> Mapping[int, tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """{image id: ((N, 4) [ymin, xmin, ymax, xmax] in pixels, (N,) classes from 0)}."""
    found: dict[int, list[Mapping[str, Any]]] = {image.id: [] for image in dataset.images}
    for annotation in dataset.annotations:
        if not annotation["iscrowd"]:
            found[annotation["image_id"]].append(annotation)
    truth = {}
    for number, annotations in found.items():
        x, y, width, height = np.array([each["bbox"] for each in annotations], np.float64).reshape(-1, 4).T
        classes = np.array([each["category_id"] - 1 for each in annotations], np.int64)
        truth[number] = np.stack([y, x, y + height, x + width], 1), classes
    return truth
