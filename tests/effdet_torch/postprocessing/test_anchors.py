"""Anchors against recorded ones of the official code, and worked out by hand; box coding there and back."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.postprocessing import eigen
from effconv.effdet_torch.postprocessing.anchors import (
    decode_boxes,
    encode_boxes,
    feature_sizes,
    legacy_anchors,
    official_anchors,
)
from recorded_detections import RECORDS, Record

ONE_CELL = dataclasses.replace(get_config("d0"), image_size=(32, 64), min_level=5, max_level=5, num_scales=1)


def test_anchors_by_hand() -> None:
    # Level 5 of 32 x 64: one row, two columns, stride 32, centres (16, 16) and (16, 48), size 4 * 32 = 128.
    root = 2**0.5
    half = [(64.0, 64.0), (64.0 / root, 64.0 * root), (64.0 * root, 64.0 / root)]  # (height, width): aspects 1, 2, 1/2
    expected = [[16 - h, x - w, 16 + h, x + w] for x in (16.0, 48.0) for h, w in half]
    assert torch.allclose(official_anchors(ONE_CELL), torch.tensor(expected), atol=1e-5)


def test_legacy_anchors_are_one_percent_off() -> None:
    sides = legacy_anchors(ONE_CELL)[:3, 2:] - legacy_anchors(ONE_CELL)[:3, :2]  # (height, width)
    assert torch.allclose(sides, torch.tensor([[128.0, 128.0], [128 * 0.7, 128 * 1.4], [128 * 1.4, 128 * 0.7]]))
    off = (official_anchors(ONE_CELL)[1] - legacy_anchors(ONE_CELL)[1]).abs().max() / 128
    assert 0.005 < off < 0.015


def test_octaves_and_order() -> None:
    config = dataclasses.replace(ONE_CELL, num_scales=3)
    heights = (official_anchors(config)[:, 2] - official_anchors(config)[:, 0]).reshape(2, 3, 3)
    assert torch.allclose(heights[0, :, 0], 128 * 2 ** (torch.arange(3) / 3))  # octaves outside, aspects inside
    assert torch.equal(heights[0], heights[1])  # positions outermost


def test_feature_sizes_are_halved_rounding_up() -> None:
    config = dataclasses.replace(get_config("d0"), image_size=(100, 333))
    assert feature_sizes(config) == [(13, 42), (7, 21), (4, 11), (2, 6), (1, 3)]
    assert len(official_anchors(config)) == 9 * sum(height * width for height, width in feature_sizes(config))
    first = official_anchors(config)[0]
    # The stride of level 3 is 100 / 13 by 333 / 42, and the first centre half of it.
    assert torch.allclose((first[:2] + first[2:]) / 2, torch.tensor([100 / 26, 333 / 84]), atol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize("name", RECORDS)
def test_anchors_are_the_recorded_ones(shared: Path, name: str) -> None:
    record = Record(shared, name)
    ours, theirs = official_anchors(record.config).numpy(), record.arrays["anchors"]
    every = -(-len(ours) // len(theirs))  # of D0's, every 37th is recorded
    assert np.array_equal(ours[::every], theirs)
    assert not np.array_equal(legacy_anchors(record.config).numpy()[::every], theirs)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["synth_small", "e2e_tiny-swish_128x160"])
def test_decoded_boxes_are_the_recorded_ones(shared: Path, name: str) -> None:
    record = Record(shared, name)
    postprocessor = record.postprocessor("global_gaussian_in0")
    _, codes = record.outputs()
    flat = torch.cat([level.permute(0, 2, 3, 1).reshape(2, -1, 4) for level in codes], dim=1)
    boxes = postprocessor.decode(flat, official_anchors(record.config).expand(flat.shape))
    ours, theirs = boxes.reshape(-1, 4).numpy(), record.arrays["prenms0/boxes"].reshape(-1, 4)
    # TensorFlow computes exp of the array's last values, which do not fill a vector of eight, with the C library's.
    tail = len(ours) % 8
    assert np.array_equal(ours[: len(ours) - tail], theirs[: len(ours) - tail])
    assert np.allclose(ours, theirs, rtol=0, atol=1e-4)  # 1 ulp of sides of up to a thousand pixels


def test_decoding_by_hand() -> None:
    anchor = torch.tensor([0.0, 0.0, 10.0, 20.0])  # centre (5, 10), 10 high, 20 wide
    codes = torch.tensor([0.5, -0.25, torch.log(torch.tensor(2.0)), 0.0])  # 5 down, 5 left, twice as high
    assert torch.allclose(decode_boxes(codes, anchor), torch.tensor([0.0, -5.0, 20.0, 15.0]), atol=1e-5)


def test_sides_are_tensorflows_exp_of_the_codes() -> None:
    codes = torch.tensor([-0.28535897, -3.10652, -1.0249817])  # torch.exp differs from TensorFlow's on all three
    for code in codes:
        box = decode_boxes(
            torch.stack([torch.tensor(0.0), torch.tensor(0.0), code, code]), torch.tensor([-1.0, -1, 1, 1])
        )
        assert torch.equal(box, eigen.exp(code) * torch.tensor([-1.0, -1.0, 1.0, 1.0]))


def test_size_codes_are_not_clamped() -> None:
    anchor = torch.tensor([0.0, 0.0, 1.0, 1.0])
    box = decode_boxes(torch.tensor([0.0, 0.0, 10.0, 80.0]), anchor)
    assert torch.allclose(box[2] - box[0], torch.tensor(10.0).exp())
    assert torch.allclose(box[3] - box[1], torch.tensor(80.0).exp())


def test_encoding_is_the_inverse() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = official_anchors(ONE_CELL)
    low = torch.rand(len(anchors), 2, generator=generator) * 50
    boxes = torch.cat([low, low + 1 + torch.rand(len(anchors), 2, generator=generator) * 50], dim=1)
    assert torch.allclose(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, atol=1e-4)
    assert torch.isfinite(encode_boxes(torch.zeros(4), anchors[0])).all()
