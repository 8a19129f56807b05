"""The best overlap of a box with any anchor, beside all anchors one by one; and the anchors proposed for odd boxes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_datasets import SIZE, change, clean, write_clean
from numpy.typing import NDArray

from effconv.effdet_torch.config import Config, get_config
from effconv.effdet_torch.postprocessing.anchors import official_anchors
from effconv.effdet_torch.training.targets import MATCHED_IOU, label_anchors
from effconv.parity.datasets.anchor_proposal import Proposal, aspect_clusters, choose_anchors, propose_anchors
from effconv.parity.datasets.boxes import Boxes
from effconv.parity.datasets.coverage import best_overlaps, coverage, learnt
from effconv.parity.datasets.layouts import read_dataset

SMALL = dataclasses.replace(get_config("d0"), image_size=(160, 224))
CONFIGS = {
    "d0, smaller": SMALL,
    "sides that are no multiples of the strides": dataclasses.replace(get_config("d0"), image_size=(150, 301)),
    "lite2": get_config("lite2"),
    "one aspect, five octaves": dataclasses.replace(SMALL, aspect_ratios=(3.0,), num_scales=5, anchor_scale=1.7),
}
# Anchors are rounded to float32, at 512 by 3e-5 pixels at most, and the boxes' sides are 4 pixels and more.
ROUNDING = 1e-4


def some_boxes(config: Config, count: int = 400) -> NDArray[np.float32]:
    """Anywhere in the input and cut off at its edge, of sides from 4 pixels to beyond the input's."""
    random = np.random.default_rng(11)
    height, width = config.image_size
    sides = np.exp(random.uniform(np.log(4), np.log(1.5 * max(height, width)), (count, 2)))
    centres = random.uniform(0, 1, (count, 2)) * [height, width]
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], 1)
    clipped = np.clip(boxes, 0, [height - 1, width - 1, height - 1, width - 1]).astype(np.float32)
    return clipped[((clipped[:, 2:] - clipped[:, :2]) > 4).all(1)]


def by_all_anchors(boxes: NDArray[np.float32], config: Config) -> NDArray[np.float64]:
    """The definition, written out in float64."""
    anchors = official_anchors(config).numpy().astype(np.float64)
    best = []
    for ymin, xmin, ymax, xmax in boxes.astype(np.float64):
        height = np.minimum(anchors[:, 2], ymax) - np.maximum(anchors[:, 0], ymin)
        width = np.minimum(anchors[:, 3], xmax) - np.maximum(anchors[:, 1], xmin)
        meeting = np.clip(height, 0, None) * np.clip(width, 0, None)
        areas = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
        best.append((meeting / (areas + (ymax - ymin) * (xmax - xmin) - meeting)).max())
    return np.array(best)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_best_of_all_anchors_is_found_without_looking_at_all(name: str) -> None:
    boxes = some_boxes(CONFIGS[name])
    expected = by_all_anchors(boxes, CONFIGS[name])
    assert 0 < (expected < MATCHED_IOU).mean() < 1
    np.testing.assert_allclose(best_overlaps(boxes, CONFIGS[name]), expected, rtol=0, atol=ROUNDING)


def test_a_box_without_area_is_reached_by_none() -> None:
    boxes = np.array([[10, 10, 10, 40], [10, 10, 40, 10], [10, 10, 40, 40]], np.float32)
    found = best_overlaps(boxes, SMALL)
    assert found[:2].tolist() == [0, 0]
    assert found[2] > 0.3


def test_boxes_that_are_not_reached_are_those_training_gives_one_anchor() -> None:
    boxes = some_boxes(SMALL, 40)
    reached = best_overlaps(boxes, SMALL) >= MATCHED_IOU
    for box, is_reached in zip(boxes, reached, strict=True):
        targets = label_anchors(torch.from_numpy(box[None]), torch.tensor([0]), official_anchors(SMALL))
        assert is_reached or int(targets.positives) == 1


def wide(folder: Path, height: int = 6, width: int = 72) -> Boxes:
    """Every box twelve times as wide as high."""
    data = clean()
    random = np.random.default_rng(2)
    for each in data["annotations"]:
        x, y = random.integers(0, SIZE[1] - width), random.integers(0, SIZE[0] - height)
        each |= {"bbox": [int(x), int(y), width, height], "area": width * height}
    write_clean(folder)
    change(folder, **data)
    return Boxes.of(read_dataset(folder), {})


def test_anchors_for_very_wide_boxes_reach_them(tmp_path: Path) -> None:
    boxes, config = wide(tmp_path), get_config("d0")
    proposed = propose_anchors(boxes, config)
    assert proposed is not None
    assert proposed.gains
    assert proposed.not_reached_now == proposed.boxes == len(boxes)
    assert proposed.not_reached < 0.1 * proposed.boxes
    other = proposed.not_reached_in_other_half
    assert other is not None
    assert other < 0.2 * proposed.boxes
    assert all(11 < aspect < 13 for aspect in proposed.aspect_ratios)
    # What it says of itself is what the configuration it makes does.
    _, resized = learnt(boxes, config)
    again = by_all_anchors(resized, proposed.config(config))
    assert (again < MATCHED_IOU).sum() == proposed.not_reached
    assert again.mean() == pytest.approx(proposed.mean_best, abs=ROUNDING)


def test_anchors_of_one_half_are_measured_on_the_other(tmp_path: Path) -> None:
    """Wide boxes on every second picture, high ones on the rest: what one half makes chosen is useless on the other."""
    data = clean()
    for each in data["annotations"]:
        x, y, *_ = each["bbox"]
        each["bbox"] = [x % 50, y, 72, 6] if each["image_id"] % 2 else [x, y % 20, 6, 72]
    write_clean(tmp_path)
    change(tmp_path, **data)
    proposed = propose_anchors(Boxes.of(read_dataset(tmp_path), {}), get_config("d0"))
    assert proposed is not None
    assert proposed.not_reached < 0.2 * proposed.boxes
    assert proposed.not_reached_in_other_half == proposed.boxes == proposed.not_reached_now
    assert not proposed.gains


def test_nothing_is_proposed_where_all_are_reached() -> None:
    """Boxes that are anchors: the model's own are the first of equals."""
    inside = official_anchors(SMALL).numpy()[200:2000:100]
    assert choose_anchors(inside, SMALL) == SMALL
    equal = Proposal(
        aspect_ratios=(1.0,),
        anchor_scale=4.0,
        boxes=10,
        not_reached_now=5,
        not_reached=5,
        mean_best_now=0.5,
        mean_best=0.6,
        not_reached_in_other_half=5,
    )
    assert not equal.gains
    assert not dataclasses.replace(equal, not_reached=2).gains  # no better on the other half
    assert dataclasses.replace(equal, not_reached=2, not_reached_in_other_half=4).gains
    assert dataclasses.replace(equal, not_reached=2, not_reached_in_other_half=None).gains


def test_aspects_are_means_of_logarithms() -> None:
    aspects = np.array([0.1, 0.1, 1, 1, 1, 4, 9])
    assert aspect_clusters(aspects, 3) == (0.1, 1.0, 6.0)
    assert aspect_clusters(np.array([2.0]), 3) == (2.0, 2.0, 2.0)


def test_coverage_counts_by_size_and_category_and_leaves_out_crowds(tmp_path: Path) -> None:
    write_clean(tmp_path)
    data = clean()["annotations"]
    for each in data[::2]:  # all of category 2, and of no anchor's aspect
        each |= {"bbox": [10, 10, 100, 4], "area": 400}
    data[1]["iscrowd"] = 1
    data[3]["bbox"] = [500, 10, 20, 20]  # nothing of it is in the input
    change(tmp_path, annotations=data)
    dataset = read_dataset(tmp_path)
    found = coverage(dataset, Boxes.of(dataset, {}), get_config("d0"))
    assert found is not None
    assert (found.left_out, found.all.boxes) == (2, len(data) - 2)
    assert [(each.name, each.share) for each in found.worst_categories][:1] == [("square", 1.0)]
    assert sum(each.boxes for each in found.by_size) == found.all.boxes
    assert found.by_size[2].boxes == 0
    assert found.by_size[2].share == 0
    assert coverage(dataset, Boxes.of(dataclasses.replace(dataset, annotations=()), {}), get_config("d0")) is None
    assert propose_anchors(Boxes.of(dataclasses.replace(dataset, annotations=()), {}), get_config("d0")) is None
