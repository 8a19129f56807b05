"""Matches at COCO's limits: areas at their exact bounds, the last detections that count, overlaps of nothing."""

from pathlib import Path

import numpy as np
import pytest

from effconv.parity.ablation.bootstrap import metrics_of
from effconv.parity.ablation.matches import match_detections
from effconv.parity.datasets.dataset import Dataset, Image
from effconv.parity.evaluation.coco import METRICS, evaluate

Box = tuple[float, float, float, float]  # x, y, width, height


def dataset_of(truths: list[tuple[int, Box, int]]) -> Dataset:
    """Two images and one category; `truths` are image, box and whether it is a crowd."""
    images = tuple(Image(number, Path(f"{number}.png"), 500, 500) for number in (1, 2))
    annotations = tuple(
        {
            **{"id": place + 1, "image_id": image, "category_id": 1, "bbox": list(box), "iscrowd": crowd},
            "area": box[2] * box[3],
        }
        for place, (image, box, crowd) in enumerate(truths)
    )
    return Dataset(Path("made-up"), images, {1: "thing"}, annotations, "")


def require_official(dataset: Dataset, detections: list[tuple[int, Box, float]]) -> dict[str, float]:
    """Our metrics, which must be pycocotools'."""
    rows = np.array([(image, *box, score, 1) for image, box, score in detections])
    found = metrics_of(match_detections(dataset, rows))[0]
    official = evaluate(dataset, rows, engine="pycocotools").metrics
    np.testing.assert_allclose(found, list(official.values()), rtol=0, atol=1e-14)
    return dict(zip(METRICS, found.tolist(), strict=True))


@pytest.mark.parametrize("side", [0.5, 31, 32, 33, 95, 96, 97, 499])
def test_areas_at_their_bounds(side: float) -> None:
    """A true box counts in every range that its area bounds; so does what is wrongly found."""
    dataset = dataset_of([(1, (0.0, 0.0, side, side), 0), (2, (0.0, 0.0, 8.0, 8.0), 0)])
    wrong = [(2, (100.0, 100.0, other, other), 0.9) for other in (0.5, 31.0, 32.0, 33.0, 95.0, 96.0, 97.0)]
    for some in [[], wrong[:1], wrong[1:2], wrong[2:3], wrong[3:4], wrong[4:5], wrong[5:6], wrong[6:], wrong]:
        found = require_official(dataset, [(1, (0.0, 0.0, side, side), 0.5), *some])
    ranges = (side <= 32, 32 <= side <= 96, side >= 96)
    for name, counts in zip(("ARs", "ARm", "ARl"), ranges, strict=True):
        assert (found[name] > 0) == counts


@pytest.mark.parametrize("place", [0, 1, 2, 9, 10, 11, 98, 99, 100, 101])
def test_detections_beyond_the_limits_find_nothing_and_spoil_nothing(place: int) -> None:
    """The right detection is the first, second, ... of its image; another image's comes after all of them."""
    box = (0.0, 0.0, 50.0, 50.0)
    dataset = dataset_of([(1, box, 0), (2, box, 0)])
    wrong = [(1, (200.0, 200.0, 50.0, 50.0), 0.9 - 0.001 * number) for number in range(102)]
    wrong[place] = (1, box, wrong[place][2])
    found = require_official(dataset, [*wrong, (2, box, 0.1)])
    for name, limit in (("AR1", 1), ("AR10", 10), ("AR100", 100)):
        assert found[name] == (1.0 if place < limit else 0.5)


@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize(
    "box",
    [
        *((50.0, 0.0, 50.0, 50.0), (0.0, 50.0, 50.0, 50.0), (60.0, 0.0, 50.0, 50.0), (0.0, 60.0, 50.0, 50.0)),
        *((10.0, 10.0, 0.0, 20.0), (10.0, 10.0, 20.0, 0.0), (10.0, 10.0, 0.0, 0.0), (80.0, 80.0, 50.0, 50.0)),
        *((0.0, 0.0, 25.0, 50.0), (0.0, 0.0, 50.0, 47.5), (10.0, 10.0, 100.0, 20.0)),
    ],
)
def test_boxes_that_touch_or_have_no_area(box: Box, crowd: int) -> None:
    """Without a common area there is no match, and no division by an area of zero."""
    dataset = dataset_of([(1, (0.0, 0.0, 50.0, 50.0), crowd), (2, (0.0, 0.0, 50.0, 50.0), 0)])
    require_official(dataset, [(1, box, 0.9), (2, (0.0, 0.0, 50.0, 50.0), 0.5)])
