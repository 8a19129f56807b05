"""`effconv shapes`: the pictures of `effdet_torch.shapes` written as a dataset in COCO's format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from ...convert.output import replacing
from ...errors import EffconvError
from .dataset import ANNOTATION_PREFIX
from .shapes import CATEGORIES, draw_picture

JPEG_QUALITY = 90
LEAST_SIDE = 32


def write_shapes(
    folder: Path,
    split: str,
    images: int,
    seed: int,
    size: tuple[int, int],
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write FOLDER/SPLIT/*.jpg and FOLDER/annotations/instances_SPLIT.json; returns counts.

    The same arguments give the same files, and the first N pictures do not depend on how many follow. The annotations
    come last, so that a dataset that has them is whole. Raises EffconvError for sizes too small to hold a shape.
    """
    if min(size) < LEAST_SIDE:
        raise EffconvError(f"--size {size[0]}x{size[1]}: expected sides of at least {LEAST_SIDE} pixels")
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(images):
        picture = draw_picture(seed, number, size)
        name = f"{number + 1:06d}.jpg"
        with replacing(folder / split / name) as (file,):
            Image.fromarray(picture.pixels).save(file, "JPEG", quality=JPEG_QUALITY)
        entries.append({"id": number + 1, "file_name": name, "height": size[0], "width": size[1]})
        for drawn in picture.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": drawn.category,
                    "bbox": drawn.box,
                    "area": int(drawn.mask.sum()),
                    "iscrowd": int(drawn.crowd),
                }
            )
        if report:
            report(number + 1, images)
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    data = {
        "info": {"description": f"drawn shapes, seed {seed}, {size[0]}x{size[1]}"},
        "images": entries,
        "annotations": annotations,
        "categories": categories,
    }
    path = folder / "annotations" / f"{ANNOTATION_PREFIX}{split}.json"
    with replacing(path) as (file,):
        file.write_text(json.dumps(data) + "\n", encoding="utf-8")
    return {"annotations": str(path), "images": len(entries), "objects": len(annotations)}
