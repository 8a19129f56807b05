"""The true boxes of a dataset as arrays, with the sizes of their pictures: what all findings are computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset


@dataclass(frozen=True)
class Boxes:
    """N boxes, in the order of the annotations."""

    images: NDArray[np.int64]  # (N,) place of the picture in `Dataset.images`
    categories: NDArray[np.int64]  # (N,) category ids
    xywh: NDArray[np.float64]  # (N, 4) x, y, width, height in pixels of the picture
    areas: NDArray[np.float64]  # (N,) of the objects, as annotated: COCO's metrics sort objects by them
    crowd: NDArray[np.bool_]  # (N,)
    sizes: NDArray[np.int64]  # (N, 2) height and width of the box's picture
    names: Sequence[str]  # the annotations' own ids, N

    @classmethod
    def of(cls, dataset: Dataset, file_sizes: Mapping[int, tuple[int, int]]) -> Self:
        """The boxes of a dataset. `file_sizes` has pictures' (height, width) by image id where files were read, as
        training and evaluation take boxes for pixels of the file; the annotated size counts where there is none.
        """
        places = {image.id: place for place, image in enumerate(dataset.images)}
        sizes = [file_sizes.get(image.id, (image.height, image.width)) for image in dataset.images]
        images = np.array([places[each["image_id"]] for each in dataset.annotations], np.int64)
        return cls(
            images=images,
            categories=np.array([each["category_id"] for each in dataset.annotations], np.int64),
            xywh=np.array([each["bbox"] for each in dataset.annotations], np.float64).reshape(-1, 4),
            areas=np.array([each["area"] for each in dataset.annotations], np.float64),
            crowd=np.array([each["iscrowd"] for each in dataset.annotations], np.bool_),
            sizes=np.array(sizes, np.int64).reshape(-1, 2)[images],
            names=dataset.annotation_names,
        )

    def __len__(self) -> int:
        return len(self.images)
