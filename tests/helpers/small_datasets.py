"""COCO-format datasets for tests, written to disk."""

import json
from pathlib import Path
from typing import Any


def content() -> dict[str, Any]:
    """Two images, two categories with a gap, three boxes; of its own, so that a test may change it."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 60, "width": 80},
            {"id": 3, "file_name": "b.jpg", "height": 50, "width": 40},
        ],
        "annotations": [
            {"id": 0, "image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
            {"id": 1, "image_id": 7, "category_id": 5, "bbox": [30.5, 5, 40, 50], "area": 1900.5, "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 5, "bbox": [0, 0, 40, 50], "area": 2000, "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "round"}, {"id": 5, "name": "square"}],
    }


def write_dataset(folder: Path, data: Any, split: str = "val2017") -> Path:
    """`data` as the annotations of a split below `folder`; returns `folder`."""
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return folder
