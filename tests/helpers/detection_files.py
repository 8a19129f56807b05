"""Files of detections that differ in one known way, and a dataset for them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.coco import Rows
from small_datasets import write_dataset

IMAGES, TRUTHS, FOUND, SIDE = 40, 8, 24, 200
NUMBERS = (1, 2, 4, 5, 7)
RANDOM = 7


def write_truths(folder: Path) -> Path:
    """A dataset without pictures, for files of detections alone; returns `folder`."""
    random = np.random.default_rng(RANDOM)
    images, annotations = [], []
    for number in range(IMAGES):
        images.append({"id": 3 * number + 5, "file_name": f"{number}.jpg", "height": SIDE, "width": SIDE + number})
        for _ in range(TRUTHS):
            # Away from the origin, where corners and sizes are other numbers; some reach the border.
            x, y = (float(each) for each in random.uniform(30, 150, 2))
            width, height = float(random.uniform(20, SIDE - x)), float(random.uniform(20, SIDE - y))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": images[-1]["id"],
                    "category_id": NUMBERS[int(random.integers(len(NUMBERS)))],
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": f"thing {number}"} for number in NUMBERS]
    return write_dataset(folder, {"images": images, "annotations": annotations, "categories": categories})


def detections(folder: Path, seed: int) -> Rows:
    """As a detector finds them: true boxes within some pixels, surer than what is of nothing; FOUND on every image."""
    random = np.random.default_rng(seed)
    rows = []
    for image in read_dataset(folder).images:
        true = [each for each in read_dataset(folder).annotations if each["image_id"] == image.id]
        for each in true:
            box = np.array(each["bbox"]) + random.normal(0, 3, 4)
            rows.append((image.id, *box, random.beta(4, 2), each["category_id"]))
        for _ in range(FOUND - len(true)):
            box = [*random.uniform(-5, 150, 2), *random.uniform(10, 80, 2)]
            rows.append((image.id, *box, random.beta(1, 4), NUMBERS[random.integers(len(NUMBERS))]))
    return np.array(rows)


def write_results(rows: Rows, path: Path) -> Path:
    entries: list[dict[str, Any]] = [
        {"image_id": int(row[0]), "category_id": int(row[6]), "bbox": row[1:5].tolist(), "score": float(row[5])}
        for row in rows
    ]
    path.write_text(json.dumps(entries))
    return path


def changed(column: int | slice, edit: Callable[[Any], Any]) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        other = rows.copy()
        other[:, column] = edit(rows[:, column])
        return other

    return change


def corners(rows: Rows) -> Rows:
    return np.column_stack([rows[:, :3], rows[:, 1:3] + rows[:, 3:5], rows[:, 5:]])


def clipped(rows: Rows) -> Rows:
    limits = np.column_stack([SIDE + (rows[:, 0] - 5) / 3, np.full(len(rows), SIDE)])  # as `folder` has them
    low, high = np.clip(rows[:, 1:3], 0, limits), np.clip(rows[:, 1:3] + rows[:, 3:5], 0, limits)
    return np.column_stack([rows[:, :1], low, high - low, rows[:, 5:]])


def renumbered(numbers: dict[int, int]) -> Callable[[Rows], Rows]:
    return changed(6, lambda column: [numbers[int(number)] for number in column])
