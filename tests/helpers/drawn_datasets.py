"""A small dataset with pictures in which nothing is to be found, for tests that plant something in it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from small_datasets import write_dataset

SIZE = 96, 128  # height, width
IMAGES, PER_IMAGE = 12, 3
NAMES = {1: "round", 2: "square"}


def clean() -> dict[str, Any]:
    """Annotations of twelve pictures with three boxes each, of two categories; of its own, to be changed."""
    random = np.random.default_rng(5)
    images = [
        {"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]}
        for number in range(1, IMAGES + 1)
    ]
    annotations = []
    for image in images:
        for _ in range(PER_IMAGE):
            number = len(annotations) + 1
            width, height = (int(each) for each in random.integers(16, 40, 2))
            x, y = int(random.integers(0, SIZE[1] - width)), int(random.integers(0, SIZE[0] - height))
            box = [x, y, width, height]
            common = {"image_id": image["id"], "category_id": number % 2 + 1, "iscrowd": 0}
            annotations.append({**common, "id": number, "bbox": box, "area": width * height})
    categories = [{"id": number, "name": name} for number, name in NAMES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_pictures(folder: Path, split: str = "val2017", seed: int = 1) -> None:
    """A file of noise for each picture of `clean`, no two alike."""
    random = np.random.default_rng(seed)
    (folder / split).mkdir(parents=True, exist_ok=True)
    for image in clean()["images"]:
        pixels = random.integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / split / image["file_name"])


def write_clean(folder: Path, split: str = "val2017", seed: int = 1) -> Path:
    """The dataset on disk."""
    write_pictures(folder, split, seed)
    return write_dataset(folder, clean(), split)


def change(folder: Path, **lists: Any) -> None:
    """Put other lists into the annotations of val2017."""
    path = folder / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | lists), encoding="utf-8")
