"""Which anchor is to predict which box: cases worked out by hand, and what the official code printed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from effconv.effdet_torch.config import Config, get_config
from effconv.effdet_torch.postprocessing.anchors import decode_boxes, feature_sizes, official_anchors
from effconv.effdet_torch.training.targets import BACKGROUND, batch_targets, intersection_over_union, label_anchors
from tensors import config_of

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
# Rounding: a division and a logarithm, of codes below 4 in size.
CODE_ROUNDING = 1.2e-7
ANCHORS = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 20], [50, 50, 60, 60], [100, 100, 140, 140]], dtype=torch.float32)


def boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def classes(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def test_overlaps() -> None:
    found = intersection_over_union(boxes((0, 0, 10, 10), (5, 5, 5, 5)), ANCHORS)
    assert found.tolist() == [[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_an_anchor_takes_the_box_it_overlaps_most_from_one_half_on() -> None:
    found = label_anchors(boxes((0, 0, 10, 10), (0, 0, 10, 20)), classes(4, 6), ANCHORS)
    assert found.classes.tolist() == [4, 6, BACKGROUND, BACKGROUND]
    found = label_anchors(boxes((0, 0, 10, 10)), classes(4), ANCHORS)
    assert found.classes.tolist() == [4, 4, BACKGROUND, BACKGROUND]  # the second overlaps by exactly one half
    assert float(found.positives) == 2
    found = label_anchors(boxes((0, 0, 10, 9.99)), classes(4), ANCHORS)
    assert found.classes.tolist() == [4, BACKGROUND, BACKGROUND, BACKGROUND]


def test_of_two_boxes_that_overlap_an_anchor_equally_the_first_has_it() -> None:
    found = label_anchors(boxes((0, 0, 10, 10), (0, 0, 10, 10)), classes(4, 6), ANCHORS)
    assert found.classes.tolist() == [4, 4, BACKGROUND, BACKGROUND]


def test_every_box_is_given_its_best_anchor() -> None:
    small = (51, 51, 53, 53)
    found = label_anchors(boxes(small), classes(2), ANCHORS)
    assert found.classes.tolist() == [BACKGROUND, BACKGROUND, 2, BACKGROUND]
    # Also one that another box overlaps more; and where two want the same, the first of them has it.
    found = label_anchors(boxes((50, 50, 60, 60), small, (57, 57, 58, 58)), classes(1, 2, 3), ANCHORS)
    assert found.classes.tolist()[2] == 1
    found = label_anchors(boxes(small, (50, 50, 60, 60)), classes(2, 1), ANCHORS)
    assert found.classes.tolist()[2] == 2
    # A box that meets no anchor is given the first.
    found = label_anchors(boxes((500, 500, 510, 510)), classes(5), ANCHORS)
    assert found.classes.tolist() == [5, BACKGROUND, BACKGROUND, BACKGROUND]


def test_codes_stand_for_the_boxes() -> None:
    wanted = boxes((1, 2, 11, 13), (95, 101, 144, 139))
    found = label_anchors(wanted, classes(0, 1), ANCHORS)
    matched = found.classes >= 0
    decoded = decode_boxes(found.codes[matched], ANCHORS[matched])
    assert torch.allclose(decoded, wanted[[0, 0, 1]] if matched[1] else wanted, atol=1e-4)
    assert torch.all(found.codes[~matched] == 0)


def test_an_image_without_boxes_is_background() -> None:
    found = label_anchors(boxes(), classes(), ANCHORS)
    assert found.classes.tolist() == [BACKGROUND] * 4
    assert (float(found.positives), float(found.codes.abs().max())) == (0, 0)
    both = batch_targets([found, label_anchors(boxes((0, 0, 10, 10)), classes(4), ANCHORS)])
    assert (both.classes.shape, both.codes.shape, float(both.positives)) == ((2, 4), (2, 4, 4), 2.0)


def recorded_config(name: str, size: list[int]) -> Config:
    config = config_of(SWISH) if "tiny" in name else get_config("d0")
    return dataclasses.replace(config, image_size=(size[0], size[1]))


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["label_d0_512", "label_d0_512_edge", "label_d0_512_empty", "label_tiny-swish_0", "label_tiny-swish_1"]
)
def test_recorded_targets(name: str, shared: Path) -> None:
    with np.load(shared / "goldens" / "loss.npz") as record:
        fields = {key: record[key] for key in record.files if key.startswith((f"{name}/", "meta"))}
    config = recorded_config(name, json.loads(str(fields["meta"]))[name]["image_size"])
    found = label_anchors(
        torch.from_numpy(fields[f"{name}/gt_boxes"]),
        torch.from_numpy(fields[f"{name}/gt_classes"][:, 0]).long() - 1,
        torch.as_tensor(official_anchors(config)),
    )
    assert float(found.positives) == float(fields[f"{name}/num_positives"])
    counts = [height * width * config.num_anchors for height, width in feature_sizes(config)]
    for level, labels, codes in zip(config.levels, found.classes.split(counts), found.codes.split(counts), strict=True):
        if f"{name}/cls_targets_{level}" in fields:
            expected, expected_codes = fields[f"{name}/cls_targets_{level}"], fields[f"{name}/box_targets_{level}"]
            assert np.array_equal(labels.numpy(), expected.ravel())
            assert np.abs(codes.numpy() - expected_codes.reshape(-1, 4)).max() <= CODE_ROUNDING
        else:
            places = fields[f"{name}/pos_index_{level}"]
            assert np.array_equal(np.flatnonzero(labels.numpy() != BACKGROUND), places)
            assert np.array_equal(labels.numpy()[places], fields[f"{name}/pos_cls_{level}"])
            gap = np.abs(codes.numpy()[places] - fields[f"{name}/pos_box_{level}"])
            assert gap.max(initial=0) <= CODE_ROUNDING
