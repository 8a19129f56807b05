"""What an input does not reach, measured: a weight found unreached changes nothing when changed, others do."""

from pathlib import Path

import numpy as np
import pytest
import torch

from effconv.parity.comparison.exercise import in_words, unexercised
from effconv.parity.comparison.records import Unexercised
from effconv.parity.traces.images import noise
from tiny_models import load_tiny

TINY = Path(__file__).parents[2] / "golden" / "tiny-swish"
HIGHEST = "bifpn.cells.0.nodes.7.conv.depthwise"  # of level 7: one pixel, for images of 64x64
CORNER, CENTRE = (0, 0, 0, 0), (0, 0, 1, 1)
ONE_PIXEL = tuple((row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1))


def outputs_with(path: str, place: tuple[int, ...], images: np.ndarray) -> list[torch.Tensor]:
    """All outputs of the tiny model with one weight changed."""
    model = load_tiny(TINY)
    with torch.inference_mode():
        model.get_submodule(path).weight[place] += 1.0
        found = model(torch.from_numpy(images))
    return [each for maps in found for each in maps]


def test_eight_of_nine_taps_multiply_padding_on_a_map_of_one_pixel() -> None:
    images = noise(0, (64, 64))
    found = {each.module: each for each in unexercised(load_tiny(TINY), images)}
    assert found[HIGHEST] == Unexercised(module=HIGHEST, weights=16 * 8, of=16 * 9, taps=ONE_PIXEL)
    assert not any(path.startswith(("backbone.stem", "class_head", "box_head")) for path in found)
    assert "images" not in found
    before = outputs_with(HIGHEST, CORNER, images), outputs_with(HIGHEST, CENTRE, images)
    model = load_tiny(TINY)
    with torch.inference_mode():
        own = [each for maps in model(torch.from_numpy(images)) for each in maps]
    assert all(torch.equal(a, b) for a, b in zip(before[0], own, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before[1], own, strict=True))


def test_on_maps_of_three_pixels_every_tap_is_reached() -> None:
    assert unexercised(load_tiny(TINY), noise(0, (257, 257))) == ()


def test_a_channel_that_is_zero_is_not_reached() -> None:
    model, images = load_tiny(TINY), noise(0, (257, 257))
    images[:, 1] = 0
    found = unexercised(model, images)
    stem = next(each for each in found if each.module == "backbone.stem.conv")
    assert (stem.channels, stem.taps) == ((1,), ())
    assert (stem.weights, stem.of) == (9 * 8, 27 * 8)
    place = (0, 1, 2, 2)
    for changed, same in ((place, True), ((0, 0, 2, 2), False)):
        own, other = outputs_with("backbone.stem.conv", changed, images), load_tiny(TINY)
        with torch.inference_mode():
            plain = [each for maps in other(torch.from_numpy(images)) for each in maps]
        assert all(torch.equal(a, b) for a, b in zip(own, plain, strict=True)) is same


@pytest.mark.parametrize(
    ("scale", "shift", "moved", "same"),
    [(1.0, 0.0, 0.0, True), (58.395 / 57.12, 0.15, 0.0, True), (-0.5, 1.0, 0.0, True), (1.0, 0.0, 1 / 57.12, False)],
)
def test_a_grey_picture_is_one_picture_up_to_scale_and_shift(
    scale: float, shift: float, moved: float, same: bool
) -> None:
    """One pixel one grey level off is enough to tell two channels apart."""
    images = noise(0, (64, 64))
    images[:, 2] = images[:, 0] * np.float32(scale) + np.float32(shift)
    images[0, 2, 5, 7] += moved
    first = unexercised(load_tiny(TINY), images)[0]
    assert (first == Unexercised(module="images", of=3, channels=("red and blue",))) is same
    assert (first.module == "images") is same


def test_in_words_it_is_short() -> None:
    assert in_words([]) == ""
    kernels = [
        Unexercised(module="a", weights=8, of=9, taps=ONE_PIXEL),
        Unexercised(module="b", weights=16, of=18, channels=(1,)),
    ]
    assert in_words(kernels[:1]) == "8 weights of 1 kernel, first a.weight"
    assert in_words(kernels) == "24 weights of 2 kernels, first a.weight"
    grey = Unexercised(module="images", of=3, channels=("red and green", "red and blue"))
    assert grey.plain() == {"module": "images", "of": 3, "channels": ["red and green", "red and blue"]}
    assert in_words([grey, *kernels]) == (
        "colour channels apart (red and green) and 24 weights of 2 kernels, first a.weight"
    )
