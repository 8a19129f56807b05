"""A small COCO-format dataset with pictures, for runs of a tiny model."""

from pathlib import Path

import numpy as np
from PIL import Image

from small_datasets import write_dataset

CATEGORIES = [{"id": number, "name": f"thing {number}"} for number in (1, 2, 4, 7)]
SIZES = [(90, 120), (128, 100), (60, 200), (97, 131), (1, 1), (150, 150), (40, 33), (128, 160), (70, 71)]


def write_pictures(folder: Path, count: int = len(SIZES)) -> Path:
    """Pictures of several sizes, one of 1x1, below `folder`, with a box or two each; returns `folder`."""
    random = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "val2017").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        pixels = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        name = f"{number:03d}.jpg" if number % 3 else f"{number:03d}.png"
        Image.fromarray(pixels).resize((width, height)).save(folder / "val2017" / name)
        image = {"id": 100 - number, "file_name": name, "height": height, "width": width}
        images.append(image)
        for _ in range(number % 3):
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image["id"],
                    "category_id": CATEGORIES[number % 4]["id"],
                    "bbox": [0, 0, width / 2, height / 2],
                    "area": width * height / 4,
                    "iscrowd": int(number == 5),
                }
            )
    return write_dataset(folder, {"images": images, "annotations": annotations, "categories": CATEGORIES})
