"""What `predict` gives back, as people use it: a length, names, a short form, COCO's results, a drawing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from effconv.effdet_torch.prediction import FoundObject, Prediction


@pytest.fixture
def prediction() -> Prediction:
    boxes = torch.tensor([[10.0, 20, 50, 80], [0, 0, 30, 30], [5, 5, float("inf"), 9], [60, 60, 70, 90]])
    scores = torch.tensor([0.9, 0.75, 0.5, 0.25])
    return Prediction(boxes, scores, torch.tensor([1, 3, 1, 2]), ("cat", "bird", "cat", "dog"))


def test_it_is_its_objects(prediction: Prediction) -> None:
    assert len(prediction) == 4
    assert [each.name for each in prediction] == ["cat", "bird", "cat", "dog"]
    assert next(iter(prediction)) == FoundObject("cat", pytest.approx(0.9), (10, 20, 50, 80), 1)
    assert repr(prediction) == "Prediction(4 objects: cat 0.90, bird 0.75, cat 0.50, 1 more)"
    assert repr(prediction.above(0.95)) == "Prediction(0 objects)"


def test_names_go_with_their_objects(prediction: Prediction) -> None:
    assert prediction.above(0.6).names == ("cat", "bird")
    assert prediction.finite().names == ("cat", "bird", "dog")
    assert prediction.finite().categories.tolist() == [1, 3, 2]


def test_coco_results_are_json(prediction: Prediction) -> None:
    rows = json.loads(json.dumps(prediction.to_coco(7), allow_nan=False))
    assert [row["category_id"] for row in rows] == [1, 3, 2]
    assert rows[0] == {"image_id": 7, "category_id": 1, "bbox": [10, 20, 40, 60], "score": pytest.approx(0.9)}


def test_a_drawing_has_the_boxes_and_leaves_the_image_alone(prediction: Prediction) -> None:
    pixels = np.full((100, 100, 3), 90, np.uint8)
    for image in (pixels, Image.fromarray(pixels)):
        picture = np.asarray(prediction.draw(image))
        assert picture.shape == pixels.shape
        assert (picture[80, 12:48] != 90).any(axis=1).all()
    assert (pixels == 90).all()
