"""Bilinear resizing in TensorFlow's order of operations, against the definition in float64."""

import numpy as np
import pytest
from PIL import Image

from effconv.effdet_torch.preprocessing.preprocess import to_planes
from effconv.effdet_torch.preprocessing.resize import (
    BLOCK,
    interpolation,
    resize_antialiased,
    resize_bilinear,
    resize_window,
)

SHAPES = [
    ((37, 53), (64, 64)),
    ((53, 37), (24, 40)),
    ((200, 100), (17, 9)),
    ((1, 1), (7, 5)),
    ((7, 5), (1, 1)),
    ((5, 5), (2, 2)),  # one row and one column between others are not needed
    ((2, 300), (BLOCK + 1, 300)),
    ((300, 2), (3 * BLOCK, 1)),
]


def random_pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def weights(given: int, wanted: int) -> np.ndarray:
    """(wanted, given) float64: the share of each source position in each output position."""
    positions = (np.arange(wanted) + 0.5) * given / wanted - 0.5
    return np.maximum(0, 1 - abs(positions.clip(0, given - 1)[:, None] - np.arange(given)))


@pytest.mark.parametrize(("given", "wanted"), SHAPES)
def test_bilinear_is_the_definition_to_float32_rounding(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    pixels = random_pixels(*given)
    found = np.full((3, *wanted), np.nan, np.float32)
    resize_bilinear(pixels, to_planes, found)
    rows, columns = (weights(*sides) for sides in zip(given, wanted, strict=True))
    expected = np.einsum("hy,yxc,wx->chw", rows, pixels.astype(np.float64), columns)
    # A position near 300 is rounded by up to 1.5e-5 pixels, twice, and neighbours differ by up to 255.
    assert np.abs(found - expected).max() < 255 * 4 * 1.6e-5


@pytest.mark.parametrize(("given", "wanted"), SHAPES)
def test_every_operation_is_rounded_to_float32_in_the_kernel_s_order(
    given: tuple[int, int], wanted: tuple[int, int]
) -> None:
    def normalise(pixels: np.ndarray) -> np.ndarray:
        return (to_planes(pixels) - np.float32(123.675)) / np.float32(58.395)

    pixels = random_pixels(*given)
    found = np.empty((3, *wanted), np.float32)
    resize_bilinear(pixels, normalise, found)
    planes = normalise(pixels)
    axes = [kernel_axis(*sides) for sides in zip(given, wanted, strict=True)]
    for y, (top_row, bottom_row, down) in enumerate(axes[0]):
        for x, (left, right, along) in enumerate(axes[1][:40]):
            rows = [planes[:, row] for row in (top_row, bottom_row)]
            top, bottom = (row[:, left] + (row[:, right] - row[:, left]) * along for row in rows)
            assert np.array_equal(found[:, y, x], top + (bottom - top) * down), (y, x)


def kernel_axis(given: int, wanted: int) -> list[tuple[int, int, np.float32]]:
    scale = np.float32(given) / np.float32(wanted)
    axis = []
    for index in range(wanted):
        position = (np.float32(index) + np.float32(0.5)) * scale - np.float32(0.5)
        below = np.floor(position)
        axis.append((max(int(below), 0), min(int(np.ceil(position)), given - 1), position - below))
    return axis


def test_the_same_size_is_only_normalised() -> None:
    pixels = random_pixels(5, 6)
    found = np.empty((3, 5, 6), np.float32)
    resize_bilinear(pixels, to_planes, found)
    assert np.array_equal(found, pixels.transpose(2, 0, 1))


def test_only_what_an_output_needs_is_normalised() -> None:
    seen = []

    def normalise(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return to_planes(pixels)

    resize_bilinear(random_pixels(4000, 40), normalise, np.empty((3, 8, 20), np.float32))
    assert seen == [(16, 40, 3)]


def test_a_view_of_a_larger_image_can_be_written_into() -> None:
    pixels, canvas, alone = random_pixels(30, 20), np.zeros((3, 100, 90), np.float32), np.empty((3, 80, 70), np.float32)
    resize_bilinear(pixels, to_planes, canvas[:, :80, :70])
    resize_bilinear(pixels, to_planes, alone)
    assert np.array_equal(canvas[:, :80, :70], alone)
    assert not canvas[:, 80:].any()
    assert not canvas[:, :, 70:].any()


def test_a_window_is_the_part_of_the_whole() -> None:
    random = np.random.default_rng(5)
    for _ in range(60):
        height, width, *whole = (int(side) for side in random.integers(1, 200, 4))
        pixels, expected = random_pixels(height, width), np.empty((3, *whole), np.float32)
        resize_bilinear(pixels, to_planes, expected)
        y, x = (int(random.integers(side)) for side in whole)
        found = np.empty((3, random.integers(1, whole[0] - y + 1), random.integers(1, whole[1] - x + 1)), np.float32)
        resize_window(pixels, to_planes, (whole[0], whole[1]), (y, x), found)
        assert np.array_equal(found, expected[:, y : y + found.shape[1], x : x + found.shape[2]]), (pixels.shape, whole)


def test_only_what_a_window_needs_is_normalised() -> None:
    seen = []

    def normalise(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return to_planes(pixels)

    resize_window(random_pixels(100, 60), normalise, (200, 120), (150, 20), np.empty((3, 20, 30), np.float32))
    assert seen == [(12, 17, 3)]  # half of it, and the neighbours on both sides


def test_cached_weights_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        interpolation(10, 7).weight[0] = 1


def test_antialiased_is_pillow_s_and_smooths() -> None:
    pixels = random_pixels(60, 80)
    found = np.empty((3, 15, 20), np.float32)
    resize_antialiased(pixels, to_planes, found)
    expected = Image.fromarray(pixels).resize((20, 15), Image.Resampling.BILINEAR)
    assert np.array_equal(found, np.asarray(expected).transpose(2, 0, 1))
    sharp = np.empty_like(found)
    resize_bilinear(pixels, to_planes, sharp)
    assert found.std() < 0.7 * sharp.std()
