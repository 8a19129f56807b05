"""Folded norms, kernels with a tap of zeros and the quick max-pool equal the plain ones at every size models have."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from effconv.effdet_torch.anchors import feature_sizes
from effconv.effdet_torch.architecture import blocks
from effconv.effdet_torch.config import VARIANTS, get_config
from effconv.effdet_torch.folding import Convolution, Pointwise, folded, max_pool
from effconv.effdet_torch.ops import BatchNorm, SameConv2d, same_max_pool

ODD_SIZES = [tuple(int(side) for side in pair) for pair in np.random.default_rng(0).integers(1, 140, (50, 2)) * 2 + 1]


def official_sizes() -> list[tuple[int, int]]:
    """Every input size of an official model, once."""
    return sorted({get_config(name).image_size for name in VARIANTS})


def strided_kernels() -> Iterator[int]:
    yield 3  # the stem
    for name in VARIANTS:
        yield from (block.kernel for block in blocks(get_config(name)) if block.stride == 2)


def halvings(size: tuple[int, int]) -> list[tuple[int, int]]:
    """What stride-2 operations are given on the way from an input of `size` to one pixel."""
    found = [size]
    while max(found[-1]) > 1:
        height, width = found[-1]
        found.append(((height + 1) // 2, (width + 1) // 2))
    return found


def shapes() -> list[tuple[int, int]]:
    sizes = {each for size in official_sizes() for each in halvings(size)}
    return sorted(sizes | set(ODD_SIZES) | {(1, 1), (1, 2), (2, 1), (2, 2), (3, 4), (7, 10)})


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained_norm(channels: int, seed: int = 1) -> BatchNorm:
    norm = BatchNorm(channels).eval()
    with torch.no_grad():
        norm.weight.copy_(1 + 0.5 * random(channels, seed=seed))
        norm.bias.copy_(random(channels, seed=seed + 1))
        norm.running_mean.copy_(random(channels, seed=seed + 2))
        norm.running_var.copy_(random(channels, seed=seed + 3).abs() * 1e-3)  # so small that epsilon matters
    return norm


def test_the_sizes_are_those_of_all_models() -> None:
    assert len(VARIANTS) == 15
    assert {(512, 512), (1536, 1536), (320, 320)} <= set(shapes())
    levels = {size for name in VARIANTS for size in feature_sizes(get_config(name))}
    assert levels <= set(shapes())
    assert set(strided_kernels()) == {3, 5}


@pytest.mark.parametrize("size", shapes(), ids=str)
def test_the_quick_max_pool_is_bit_exact(size: tuple[int, int]) -> None:
    x = random(1, 2, *size) - 3  # mostly negative, which zeros would win over
    expected = same_max_pool(x, (3, 3), (2, 2))
    assert torch.equal(max_pool(x, (3, 3), (2, 2)), expected)
    assert torch.equal(max_pool(x.contiguous(memory_format=torch.channels_last), (3, 3), (2, 2)), expected)


@pytest.mark.parametrize(("kernel", "stride"), [((4, 3), (3, 2)), ((2, 2), (1, 1)), ((5, 4), (4, 3))])
def test_other_windows_are_padded_as_ever(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    x = random(1, 3, 17, 22) - 3
    assert torch.equal(max_pool(x, kernel, stride), same_max_pool(x, kernel, stride))


@pytest.mark.parametrize("kernel", sorted(set(strided_kernels())))
@pytest.mark.parametrize("size", shapes(), ids=str)
def test_convolutions_with_a_tap_of_zeros(size: tuple[int, int], kernel: int) -> None:
    """Of stride 2, depthwise; its norm is folded in."""
    plain = SameConv2d(2, 2, kernel, stride=2, groups=2)
    with torch.no_grad():
        plain.weight.copy_(random(*plain.weight.shape, seed=3))
    norm = trained_norm(2)
    x = random(1, 2, *size)
    with torch.inference_mode():
        expected, found = norm(plain(x)), Convolution(plain, norm)(x)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max() + 1e-12


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 6])
def test_float64_shows_that_it_is_the_same_function(stride: int, groups: int) -> None:
    plain = SameConv2d(6, 6, 5, stride=stride, groups=groups, bias=True).double()
    norm = trained_norm(6).double()
    for size in ((8, 8), (9, 9), (8, 9), (9, 8), (1, 2)):
        x = random(2, 6, *size).double()
        with torch.inference_mode():
            expected, found = norm(plain(x)), Convolution(plain, norm)(x)
        assert (found - expected).abs().max() <= 1e-13 * expected.abs().max()


def test_folding_copies() -> None:
    convolution, norm = nn.Conv2d(3, 4, 1), nn.Identity()
    weight, bias = folded(convolution.weight, None, norm)
    assert torch.equal(weight, convolution.weight)
    assert bias.tolist() == [0.0] * 4
    weight.zero_()
    assert convolution.weight.abs().min() > 0


@pytest.mark.parametrize("batch", [1, 3])
def test_a_gate_in_the_weights(batch: int) -> None:
    pointwise = Pointwise(random(5, 7, 1, 1, seed=5), random(5, seed=6)).double()
    x, gate = random(batch, 7, 4, 6).double(), random(batch, 7, seed=8).double().sigmoid()
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        found, expected = pointwise.gated(given, gate), pointwise(given * gate[:, :, None, None])
        assert (found - expected).abs().max() < 1e-14
