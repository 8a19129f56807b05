"""COCO's twelve metrics of a list of detections.

pycocotools is the reference. The engine used by default computes the same arrays bit for bit some hundred times faster,
which `tests/parity/evaluation/test_coco.py` and `effconv bench coco` show; "pycocotools" forces the original.
"""

import contextlib
import importlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...convert.output import replacing
from ...errors import EffconvError
from ...strict_json import json_text
from ..datasets.dataset import LARGEST, Dataset, Image
from .finished import Finished

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
ENGINES = {"ultrafast": "ultrafast_pycocotools", "pycocotools": "pycocotools"}
DEFAULT_ENGINE = "ultrafast"
UNDEFINED = -1.0  # COCO's value of a metric that has no true box to be measured on
ALL_AREAS, MOST_DETECTIONS = 0, -1  # places on the precision array's last two axes
FIELDS = ("image_id", "category_id", "bbox", "score")

Rows = NDArray[np.float64]  # (N, 7): image id, x, y, width, height, score, category id, as pycocotools takes them


class Scores(NamedTuple):
    """The metrics, fractions of one, or -1 where there is no true box to measure on; and what they are made from.

    `precision` is (10 IoU thresholds, 101 recalls, categories, 4 areas, 3 detection limits), `scores` likewise, and
    `recall` (10, categories, 4, 3): pycocotools' own arrays.
    """

    metrics: dict[str, float]
    per_category: dict[int, float]  # AP by category id
    images: int
    detections: int
    engine: str
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    scores: NDArray[np.float64]


def evaluate(
    dataset: Dataset,
    detections: Rows,
    images: Sequence[Image] | None = None,
    engine: str = DEFAULT_ENGINE,
) -> Scores:
    """Evaluate detections on `images` (default: all of the dataset), those without detections included.

    Detections of categories the dataset lacks count for nothing, as in pycocotools. Raises EffconvError for a detection
    of an image that is not among them, and for an unknown or missing engine.
    """
    chosen = dataset.images if images is None else tuple(images)
    truth = dataset.coco(chosen)
    strangers = set(detections[:, 0].astype(np.int64).tolist()) - {image.id for image in chosen}
    if strangers:
        raise EffconvError(
            f"{len(strangers)} images with detections, {min(strangers)} for one, are not in {dataset.path}; "
            "are these the detections of another dataset?"
        )
    toolkit, evaluation = _engine(engine)
    with contextlib.redirect_stdout(io.StringIO()):  # it reports progress by printing
        reference = toolkit()
        reference.dataset = truth
        reference.createIndex()
        results = _results(reference, toolkit, truth, detections)
        run = evaluation(reference, results, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    arrays = {name: np.asarray(run.eval[name], np.float64) for name in ("precision", "recall", "scores")}
    by_category = {
        number: _mean(arrays["precision"][:, :, place, ALL_AREAS, MOST_DETECTIONS])
        for place, number in enumerate(run.params.catIds)
    }
    metrics = {name: float(value) for name, value in zip(METRICS, run.stats, strict=True)}
    return Scores(metrics, by_category, len(chosen), len(detections), engine, **arrays)


def _engine(name: str) -> tuple[Any, Any]:
    if name not in ENGINES:
        raise EffconvError(f"unknown engine {name!r}; there are: {', '.join(ENGINES)}")
    try:
        coco = importlib.import_module(f"{ENGINES[name]}.coco")
        evaluation = importlib.import_module(f"{ENGINES[name]}.cocoeval")
    except ImportError as error:
        raise EffconvError(
            f"engine {name} cannot be imported ({error}); install effconv's requirements anew, or use another engine"
        ) from error
    return coco.COCO, evaluation.COCOeval


def _results(reference: Any, toolkit: Any, truth: Mapping[str, Any], detections: Rows) -> Any:
    if not len(detections):  # `loadRes` looks at the first
        empty = toolkit()
        empty.dataset = {**truth, "annotations": []}
        empty.createIndex()
        return empty
    return reference.loadRes(detections)


def _mean(precision: NDArray[np.float64]) -> float:
    measured = precision[precision > UNDEFINED]
    return float(measured.mean()) if measured.size else UNDEFINED


def read_detections(path: Path) -> Rows:
    """COCO results, a list of objects, checked. Raises EffconvError naming the file and the entry at fault."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise EffconvError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise EffconvError(f"{path}: not JSON ({error})") from error
    if not isinstance(data, list):
        raise EffconvError(f"{path}: expected a list of detections, as in COCO's results format")
    for place, each in enumerate(data):
        if not _is_detection(each):
            raise EffconvError(
                f"{path}: entry {place}: expected {', '.join(FIELDS)}, ids whole numbers and the rest finite, "
                f"found {str(each)[:80]}"
            )
    return np.array(
        [(each["image_id"], *each["bbox"], each["score"], each["category_id"]) for each in data], np.float64
    ).reshape(-1, 7)


def _is_detection(each: Any) -> bool:
    if not isinstance(each, dict) or not all(name in each for name in FIELDS):
        return False
    box = each["bbox"]
    numbers = [*box, each["score"]] if isinstance(box, list) and len(box) == 4 else [math.nan]
    ids = each["image_id"], each["category_id"]
    return all(isinstance(number, int) and not isinstance(number, bool) for number in ids) and all(
        isinstance(number, int | float) and abs(number) < LARGEST for number in numbers
    )


def rows_of(results: Sequence[Finished], categories: Mapping[int, int]) -> Rows:
    """(N, 7) detections of all images, image by image, best first, in the dataset's categories."""
    tables: list[NDArray[np.float64]] = [np.zeros((0, 7))]
    for each in results:
        table = np.empty((len(each.detections), 7))
        table[:, 0], table[:, 1:] = each.image_id, each.detections
        if categories:
            table[:, 6] = [categories.get(int(number), int(number)) for number in table[:, 6]]
        tables.append(table)
    return np.concatenate(tables)


def write_detections(rows: Rows, path: Path) -> None:
    """COCO results: boxes to 2 decimals, scores to 3, as the official code writes them; a line each."""
    boxes, scores = np.around(rows[:, 1:5], 2), np.around(rows[:, 5].astype(np.float32), 3)
    lines = [
        json_text(
            {"image_id": int(row[0]), "category_id": int(row[6]), "bbox": box.tolist(), "score": float(str(score))}
        )
        for row, box, score in zip(rows, boxes, scores, strict=True)
    ]
    with replacing(path) as (file,):
        file.write_text("[" + ",\n ".join(lines) + "]\n", encoding="utf-8")
