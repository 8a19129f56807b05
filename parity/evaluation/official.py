"""COCO metrics of a checkpoint by the official pipeline in TensorFlow alone: what ours are compared with.

Nothing of `effdet_torch` computes here: decoding, input, network, candidates and suppression are TensorFlow's, in
float32, image by image; the metrics are pycocotools'.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from ...effdet_torch.preprocessing.decode import read_encoded
from ..datasets.dataset import Dataset
from ..reference.network import OfficialNetwork, import_tensorflow
from ..reference.pipeline import official_candidates, official_detections, official_input
from .coco import Rows, Scores, evaluate


def official_rows(
    config: Config,
    variables: Mapping[str, NDArray[np.float32]],
    dataset: Dataset,
    report: Callable[[int, int], None] | None = None,
) -> Rows:
    """(N, 7) detections of every image of a dataset: image id, x, y, width, height in pixels, score, category id.

    `report(done, total)` counts images. Raises EffconvError without TensorFlow, and for an image that cannot be read.
    """
    tensorflow = import_tensorflow()
    network = OfficialNetwork(config, variables, "float32")

    def outputs(image: Any) -> list[Any]:
        for _ in network.run(image):
            pass
        return [network.outputs[f"{kind}_outputs/{level}"] for kind in ("class", "box") for level in config.levels]

    compiled = tensorflow.function(outputs)
    tables: list[NDArray[np.float64]] = []
    for place, image in enumerate(dataset.images):
        pixels, scale = official_input(read_encoded(image.path), config)
        levels = compiled(pixels[None])
        half = len(levels) // 2
        candidates = official_candidates(levels[:half], levels[half:], config)
        tables.append(_table(image.id, official_detections(candidates, scale, config.num_classes)))
        if report:
            report(place + 1, len(dataset.images))
    return np.concatenate(tables)


def official_scores(rows: Rows, dataset: Dataset) -> Scores:
    """The twelve metrics of `official_rows`, by pycocotools."""
    return evaluate(dataset, rows, dataset.images, "pycocotools")


def _table(number: int, detections: Any) -> NDArray[np.float64]:
    boxes, scores, categories = (column.numpy() for column in detections)
    there = scores > 0  # the rest are rows of zeros
    ymin, xmin, ymax, xmax = boxes[there].T
    # Width and height in float32, as the official evaluation takes them.
    columns = [xmin, ymin, xmax - xmin, ymax - ymin, scores[there], categories[there]]
    return np.column_stack([np.full(there.sum(), number), *columns]).astype(np.float64)
