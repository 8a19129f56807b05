"""COCO's metrics: small cases with known answers, and the fast engine beside pycocotools, bit for bit."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.errors import EffconvError
from effconv.parity.benchmarks.synthetic_coco import synthetic
from effconv.parity.datasets.dataset import Dataset
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.coco import ENGINES, METRICS, UNDEFINED, Rows, evaluate, read_detections
from small_datasets import content, write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Category 1 has one box (small, 20x20), category 5 one of 40x50 (medium) and a crowd; the first box has id 0."""
    return read_dataset(write_dataset(tmp_path, content()))


Row = tuple[float, ...]  # image id, x, y, width, height, score, category id


def found(image: int, category: int, box: list[float], score: float = 0.9) -> Row:
    return (image, *box, score, category)


def rows(*detections: Row) -> Rows:
    return np.array(detections, np.float64).reshape(-1, 7)


PERFECT = [found(7, 1, [10, 10, 20, 20]), found(7, 5, [30.5, 5, 40, 50])]


@pytest.mark.parametrize("engine", ENGINES)
def test_small_cases_with_known_answers(engine: str, dataset: Dataset) -> None:
    def metrics(*detections: Row) -> dict[str, float]:
        return evaluate(dataset, rows(*detections), engine=engine).metrics

    perfect = metrics(*PERFECT)
    assert list(perfect) == list(METRICS)
    assert perfect == pytest.approx({**dict.fromkeys(METRICS, 1.0), "APl": UNDEFINED, "ARl": UNDEFINED})
    # A false detection above the true one halves that category's precision; below it, it costs nothing.
    assert metrics(*PERFECT, found(7, 1, [50, 30, 9, 9], 0.95))["AP"] == pytest.approx((0.5 + 1) / 2)
    assert metrics(*PERFECT, found(7, 1, [50, 30, 9, 9], 0.1))["AP"] == pytest.approx(1)
    # Of the right place and the wrong category: nothing. Inside the crowd: neither right nor wrong.
    assert metrics(found(7, 5, [10, 10, 20, 20]))["AP"] == 0
    assert metrics(*PERFECT, found(3, 5, [5, 5, 20, 20], 0.99))["AP"] == pytest.approx(1)
    # 20x20 shifted by 4 has IoU 320/480: right at 0.50, 0.55, 0.60 and 0.65 alone.
    assert metrics(found(7, 1, [14, 10, 20, 20]), PERFECT[1])["AP"] == pytest.approx((0.4 + 1) / 2)
    # A category the dataset lacks, and no detections at all.
    assert metrics(*PERFECT, found(7, 90, [10, 10, 20, 20], 1.0)) == perfect
    assert metrics()["AP"] == metrics()["AR100"] == 0


def test_scores_are_complete(dataset: Dataset) -> None:
    scores = evaluate(dataset, rows(PERFECT[0]))
    assert scores.per_category == pytest.approx({1: 1.0, 5: 0.0})
    assert (scores.images, scores.detections, scores.engine) == (2, 1, "ultrafast")
    assert scores.precision.shape == scores.scores.shape == (10, 101, 2, 4, 3)
    assert scores.recall.shape == (10, 2, 4, 3)
    assert scores.precision[scores.precision > -1].mean() != scores.metrics["AP"]  # over all areas, not only one


def test_only_the_images_asked_for_count(dataset: Dataset) -> None:
    scores = evaluate(dataset, rows(found(3, 5, [1, 1, 9, 9])), dataset.images[1:])
    assert scores.images == 1
    assert set(scores.metrics.values()) == {UNDEFINED}  # it has a crowd and no other box
    with pytest.raises(EffconvError, match=r"1 images with detections, 7 for one.*another dataset"):
        evaluate(dataset, rows(*PERFECT), dataset.images[1:])


@pytest.mark.parametrize("digits", [3, 1])
@pytest.mark.parametrize("per_image", [100, 130])
def test_the_fast_engine_computes_the_same_arrays(per_image: int, digits: int) -> None:
    """Also with many equal scores, and with more detections than are counted."""
    dataset, detections = synthetic(60, per_image, seed=digits, digits=digits)
    fast, original = (evaluate(dataset, detections, engine=engine) for engine in ("ultrafast", "pycocotools"))
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(getattr(fast, name), getattr(original, name)), name
    assert fast.metrics == original.metrics
    assert fast.per_category == original.per_category
    assert 0.05 < fast.metrics["AP"] < 0.9


@pytest.mark.slow
def test_the_fast_engine_computes_the_same_arrays_on_a_set_of_the_size_of_val2017() -> None:
    dataset, detections = synthetic(5000, 100)
    assert len(dataset.annotations) > 35000
    fast, original = (evaluate(dataset, detections, engine=engine) for engine in ("ultrafast", "pycocotools"))
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(getattr(fast, name), getattr(original, name)), name
    assert fast.metrics == original.metrics


def test_an_unknown_or_missing_engine_is_named(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EffconvError, match="unknown engine 'hot'; there are: ultrafast, pycocotools"):
        evaluate(dataset, rows(*PERFECT), engine="hot")
    monkeypatch.setitem(ENGINES, "ultrafast", "absent_toolkit")
    with pytest.raises(EffconvError, match="engine ultrafast cannot be imported"):
        evaluate(dataset, rows(*PERFECT))


ENTRY = {"image_id": 7, "category_id": 5, "bbox": [10, 20, 30.5, 40], "score": 0.25}


def test_detections_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, "score": 1}]))
    assert read_detections(path).tolist() == [[7, 10, 20, 30.5, 40, 0.25, 5], [7, 10, 20, 30.5, 40, 1, 5]]
    path.write_text("[]")
    assert read_detections(path).shape == (0, 7)


@pytest.mark.parametrize(
    "entry",
    [
        3,
        {},
        {**ENTRY, "image_id": "7"},
        {**ENTRY, "category_id": 1.0},
        {**ENTRY, "category_id": True},
        {**ENTRY, "bbox": [1, 2, 3]},
        {**ENTRY, "bbox": {"x": 1}},
        {**ENTRY, "bbox": [1, 2, 3, None]},
        {**ENTRY, "score": math.nan},
        {**ENTRY, "score": math.inf},
        {**ENTRY, "score": 10**400},
        {**ENTRY, "score": "1"},
    ],
)
def test_a_detection_at_fault_is_named(entry: Any, tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([ENTRY, entry]))
    with pytest.raises(EffconvError, match=r"detections\.json: entry 1: expected image_id, category_id, bbox, score"):
        read_detections(path)


@pytest.mark.parametrize("text", ["", "{}", "[" * 100000, '[{"image_id": 1'])
def test_what_is_no_list_of_detections_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(EffconvError, match=r"d\.json: (not JSON|expected a list)"):
        read_detections(tmp_path / "d.json")
    with pytest.raises(EffconvError, match="cannot be read"):
        read_detections(tmp_path)
