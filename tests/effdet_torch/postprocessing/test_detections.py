"""How detections are written for COCO, and turned back from flipped images."""

import numpy as np
import pytest
import torch

from effconv.effdet_torch.postprocessing.detections import Detections, coco_results, coco_rows, found

TWO = Detections(
    boxes=torch.tensor([[[1.0, 2.125, 11.0, 22.25], [0.0, 0.0, 0.0, 0.0]]]),
    scores=torch.tensor([[0.98765, 0.0]]),
    classes=torch.tensor([[17, 0]]),
    valid=torch.tensor([1]),
)


def test_coco_results_are_rounded_xywh_with_padding() -> None:
    assert coco_results(TWO, [139]) == [
        # 2.125 and 20.125 are halves exactly: numpy rounds them to even.
        {"image_id": 139, "category_id": 17, "bbox": [2.12, 1.0, 20.12, 10.0], "score": pytest.approx(0.988)},
        {"image_id": 139, "category_id": 0, "bbox": [0.0, 0.0, 0.0, 0.0], "score": 0.0},
    ]


def test_scores_are_rounded_in_float32() -> None:
    score = coco_results(TWO, [139])[0]["score"]
    assert score == float(np.float32(0.988))
    assert score != 0.988


def test_rows_are_not_rounded() -> None:
    expected = np.array([[139, 2.125, 1.0, 20.125, 10.0, 0.98765, 17], [139, 0, 0, 0, 0, 0, 0]], np.float32)
    assert np.array_equal(coco_rows(TWO, [139])[0], expected)


def test_results_of_found_objects_alone() -> None:
    assert [row["category_id"] for row in coco_results(found(TWO, 0), [139])] == [17]


def test_scaling_and_mirroring() -> None:
    scaled = TWO.scaled(torch.tensor([2.0]))
    assert scaled.boxes[0, 0].tolist() == [2.0, 4.25, 22.0, 44.5]
    assert TWO.mirrored(torch.tensor([100.0])).boxes[0].tolist() == [[1.0, 77.75, 11.0, 97.875], [0, 100, 0, 100]]


def test_an_empty_batch_has_no_results() -> None:
    none = Detections(torch.zeros(0, 5, 4), torch.zeros(0, 5), torch.zeros(0, 5, dtype=torch.int64), torch.zeros(0))
    assert coco_results(none, []) == []


def test_found_objects_are_those_of_one_image() -> None:
    batch = Detections(*(torch.cat([column, column]) for column in TWO))
    for image in (0, 1):
        assert [tuple(column.shape) for column in found(batch, image)] == [(1, 1, 4), (1, 1), (1, 1), (1,)]
