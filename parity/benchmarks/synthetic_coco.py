"""A made-up dataset with detections of it, in COCO's proportions: what metrics engines are compared on."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...convert.output import replacing
from ...effdet_torch.categories import COCO_CATEGORIES
from ...strict_json import json_text
from ..datasets.dataset import ANNOTATION_PREFIX, DEFAULT_SPLIT, Dataset, Image

HEIGHT, WIDTH = 480, 640


def synthetic(
    images: int, detections_per_image: int, seed: int = 0, digits: int = 3
) -> tuple[Dataset, NDArray[np.float64]]:
    """Made-up boxes of COCO's categories and sizes, crowds among them, and detections: some near a box, most not.

    Detections are (N, 7) rows of image id, box, score and category. Few `digits` of the scores make many ties. 5000
    images are the size of val2017: some 36,000 boxes. The same for a seed on every machine.
    """
    random = np.random.default_rng(seed)
    categories = sorted(COCO_CATEGORIES)
    annotations: list[dict[str, Any]] = []
    detections: list[tuple[float, ...]] = []
    entries = tuple(Image(number + 1, Path(f"{number}.jpg"), HEIGHT, WIDTH) for number in range(images))
    for image in entries:
        true = [_box(random, categories) for _ in range(random.poisson(7.2))]
        for box, category in true:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.id,
                    "category_id": category,
                    "bbox": [round(value, 2) for value in box],
                    "area": box[2] * box[3] * random.uniform(0.4, 1),
                    "iscrowd": int(random.random() < 0.012),
                }
            )
        for _ in range(detections_per_image):
            near = bool(true) and random.random() < 0.3
            box, category = true[random.integers(len(true))] if near else _box(random, categories)
            if near:
                shift = random.normal(0, 0.12, 4)
                x, y, width, height = box
                box = [x + width * shift[0], y + height * shift[1], width * np.exp(shift[2]), height * np.exp(shift[3])]
                category = category if random.random() < 0.9 else int(random.choice(categories))
            score = random.beta(4, 2) if near else random.beta(1, 6)
            rounded = (round(float(value), 2) for value in box)
            detections.append((image.id, *rounded, round(float(score), digits), category))
    return Dataset(Path("synthetic.json"), entries, COCO_CATEGORIES, tuple(annotations), ""), np.array(detections)


def _box(random: np.random.Generator, categories: list[int]) -> tuple[list[float], int]:
    """A box inside the image, from 6 to 300 pixels a side, and its category; common ones are as common as in COCO."""
    width, height = np.exp(random.uniform(np.log(6), np.log(300), 2))
    box = [random.uniform(0, WIDTH - width), random.uniform(0, HEIGHT - height), width, height]
    return [float(value) for value in box], int(random.choice(categories[:20] if random.random() < 0.6 else categories))


def write_annotations(dataset: Dataset, folder: Path) -> None:
    """The dataset's annotations below `folder`, where `read_dataset` finds them; no pictures."""
    content = dataset.coco(dataset.images)
    for entry, image in zip(content["images"], dataset.images, strict=True):
        entry["file_name"] = image.path.name
    with replacing(folder / "annotations" / f"{ANNOTATION_PREFIX}{DEFAULT_SPLIT}.json") as (file,):
        file.write_text(json_text(content), encoding="utf-8")
