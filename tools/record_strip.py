"""What TensorFlow and effconv find in two drawn pictures, and how far every layer is apart: what docs/strip.svg shows.

    python tools/record_strip.py

Writes results/measured/strip.json; exits with status 1 when the two find different objects. Takes about ten seconds.
"""

import base64
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from subjects import MEASURED

from effconv.effdet_torch.model import EfficientDet
from effconv.effdet_torch.preprocessing.decode import read_encoded
from effconv.loading import load
from effconv.parity.comparison.end_to_end import BothSides
from effconv.parity.comparison.layerwise import compare_layerwise
from effconv.parity.comparison.pairing import pair_detections
from effconv.parity.comparison.subject import Choice
from effconv.parity.datasets.dataset import Dataset, Image
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.datasets.shapes import write_shapes
from effconv.parity.embedded import CONFIG, FOLDER, HELD_OUT_SEED, HELD_OUT_SIZE, SPLIT, embedded_config
from effconv.parity.provenance import provenance
from effconv.parity.reference.pipeline import official_candidates, official_detections, official_input
from effconv.parity.rendering.record import write_record
from effconv.parity.traces.official import official_variables

PICTURES = 2  # the first held-out ones in which TensorFlow finds so many objects
LEAST_FOUND = 4
SHOWN_SCORE = 0.4  # of objects that are drawn
DRAWN = 40  # held-out pictures among which they are


def main() -> None:
    """Write the record."""
    config, command = embedded_config(), "python tools/record_strip.py"
    variables, source = official_variables(FOLDER, config)
    model = load(FOLDER, model=config)
    sides = BothSides(config, variables, model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shapes(folder, SPLIT, DRAWN, HELD_OUT_SEED, HELD_OUT_SIZE)
        dataset = read_dataset(folder)
        drawn = (_picture(dataset, image, sides, model) for image in dataset.images)
        pictures = list(itertools.islice((each for each in drawn if len(each["tensorflow"]) >= LEAST_FOUND), PICTURES))
        first = folder / SPLIT / pictures[0]["file"]
        choice = Choice(model=str(CONFIG), checkpoint=FOLDER, reference="tf", image=first)
        compared = compare_layerwise(choice, _no_download, command, explaining=False, backward=False)
    layers = [
        {
            "layer": row.layer,
            "float64": row.checks["float64 accumulated"].error,
            "float32": row.checks["float32 accumulated"].error,
            "allowed": row.checks["float64 accumulated"].limit,
        }
        for row in compared.rows
    ]
    record = {
        "what": "the embedded detector on drawn pictures: what is in them, what TensorFlow and effconv find",
        "command": command,
        "model": config.name,
        "fingerprint": source["checkpoint_fingerprint"],
        "least_score": SHOWN_SCORE,
        "categories": {str(each): dataset.categories[each] for each in sorted(dataset.categories)},
        "pictures": pictures,
        "layers_of": first.name,
        "layers": layers,
        "provenance": provenance() | {"dtype": "float32"},
    }
    write_record(record, MEASURED / "strip.json")
    same = all(picture["same_objects"] for picture in pictures)
    print(f"{'the same' if same else 'other'} objects in {len(pictures)} pictures; {compared.verdict}")
    sys.exit(not (same and compared.ok))


def _truth(dataset: Dataset, image: Image) -> list[dict[str, Any]]:
    """The objects drawn in a picture, boxes [xmin, ymin, xmax, ymax] in pixels."""
    found = []
    for each in dataset.annotations:
        if each["image_id"] == image.id:
            x, y, width, height = each["bbox"]
            found.append({"box": [x, y, x + width, y + height], "category": each["category_id"]})
    return found


def _picture(dataset: Dataset, image: Image, sides: BothSides, model: EfficientDet) -> dict[str, Any]:
    """One picture's file, its objects, and what each side finds in it, best first, paired."""
    encoded = read_encoded(image.path)
    pixels, scale = official_input(encoded, sides.config)
    outputs = sides.official_outputs(pixels.numpy()[None])
    half = len(outputs) // 2
    candidates = official_candidates(outputs[:half], outputs[half:], sides.config)
    columns = official_detections(candidates, scale, sides.config.num_classes)
    boxes, scores, categories = (column.numpy() for column in columns)
    shown = scores >= SHOWN_SCORE
    theirs = boxes[shown], scores[shown], categories[shown]
    (prediction,) = model.predict([encoded])
    prediction = prediction.above(SHOWN_SCORE)
    ours = prediction.boxes.numpy()[:, [1, 0, 3, 2]], prediction.scores.numpy(), prediction.categories.numpy()
    pairing = pair_detections(*theirs, *ours)
    return {
        "file": image.path.name,
        "jpeg": base64.b64encode(encoded).decode("ascii"),
        "height": image.height,
        "width": image.width,
        "truth": _truth(dataset, image),
        "tensorflow": _objects(*theirs),
        "effconv": _objects(*ours),
        "pairs": pairing.pairs,
        "same_objects": not pairing.only_first and not pairing.only_second,
    }


def _objects(boxes: NDArray[np.float32], scores: NDArray[np.float32], categories: NDArray[Any]) -> list[dict[str, Any]]:
    """Detections, boxes yxyx, as the record has them."""
    return [
        {"box": [float(box[place]) for place in (1, 0, 3, 2)], "score": float(score), "category": int(category)}
        for box, score, category in zip(boxes, scores, categories, strict=True)
    ]


def _no_download(model: str) -> Path:
    raise AssertionError(f"{model}: the checkpoint is at hand")


if __name__ == "__main__":
    main()
