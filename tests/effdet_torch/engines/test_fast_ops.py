"""Convolution, pooling and upsampling without copies, beside the plain ones: every size the models have, and others."""

import random
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from effconv.effdet_torch.architecture import blocks
from effconv.effdet_torch.config import OFFICIAL_NAMES, VARIANTS
from effconv.effdet_torch.engines import convolution
from effconv.effdet_torch.engines.convolution import SMALL, FirstConv2d, PointwiseConv2d, ZeroTapConv2d, padded
from effconv.effdet_torch.ops import SameConv2d, pad_same, resize_nearest, same_max_pool

CHANNELS = 2  # no size depends on them
Size = tuple[int, int]


def image_sizes() -> list[Size]:
    """Every official size, and 50 of which a side or both are odd."""
    official = {config.image_size for config in VARIANTS.values()}
    draw = random.Random(0)
    odd: set[Size] = set()
    while len(odd) < 50:
        size = draw.randint(33, 500), draw.randint(33, 500)
        if size[0] % 2 or size[1] % 2:
            odd.add(size)
    return sorted(official) + sorted(odd)


def halved(size: Size) -> Size:
    return -(-size[0] // 2), -(-size[1] // 2)


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last)


def zero_tap(conv: SameConv2d) -> ZeroTapConv2d:
    return ZeroTapConv2d(conv.weight.detach(), None, (conv.stride[0], conv.stride[1]), conv.groups)


def padded_max_pool(x: torch.Tensor, kernel: Size, stride: Size) -> torch.Tensor:
    """SAME max-pool as it is defined: of a copy that is padded with minus infinity."""
    padded, padding = pad_same(x, kernel, stride, value=-torch.inf)
    return F.max_pool2d(padded, kernel, stride, padding)


def strided_convolutions() -> Iterator[tuple[int, Size]]:
    """(kernel, input size) of every convolution with a stride, the stem's included."""
    for name in OFFICIAL_NAMES:
        kernels = [3, *(block.kernel for block in blocks(VARIANTS[name]) if block.stride == 2)]
        assert len(kernels) == 5
        for size in image_sizes():
            for kernel in kernels:
                yield kernel, size
                size = halved(size)


def pooled_maps() -> Iterator[Size]:
    """Size of every feature map that is pooled to the next level: 3 to 7."""
    for size in image_sizes():
        for level in range(8):
            if level >= 3 and min(size) > 1:  # along one axis alone nothing is pooled
                yield size
            size = halved(size)


@torch.inference_mode()
def test_strided_convolutions_of_all_variants_at_all_sizes() -> None:
    cases = set(strided_convolutions())
    assert len(cases) > 250
    for kernel, size in cases:
        conv = SameConv2d(CHANNELS, CHANNELS, kernel, 2, groups=CHANNELS)
        x = noise(1, CHANNELS, *size)
        expected, found = conv(x), zero_tap(conv)(x)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max(), (kernel, size)


@torch.inference_mode()
def test_max_pools_of_all_variants_at_all_sizes_are_the_same_bits() -> None:
    cases = set(pooled_maps())
    assert len(cases) > 150
    for size in cases:
        x = noise(1, CHANNELS, *size) - 5  # nearly all negative: what is padded must not win
        assert torch.equal(same_max_pool(x, (3, 3), (2, 2)), padded_max_pool(x, (3, 3), (2, 2))), size


@pytest.mark.parametrize("stride", [(2, 2), (3, 3), (4, 4), (2, 3), (5, 2)])
@torch.inference_mode()
def test_max_pools_of_other_strides_are_the_same_bits(stride: Size) -> None:
    kernel = stride[0] + 1, stride[1] + 1
    for height in range(1, 20):
        for width in range(1, 20):
            x = noise(1, CHANNELS, height, width) - 5
            expected = padded_max_pool(x, kernel, stride)
            assert torch.equal(same_max_pool(x, kernel, stride), expected), (height, width)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
@torch.inference_mode()
def test_convolutions_of_any_kernel_and_stride(kernel: int, stride: int) -> None:
    conv = SameConv2d(CHANNELS, 3, kernel, stride).double()
    other = zero_tap(conv)
    for height in range(1, 12):
        for width in range(1, 12):
            x = noise(2, CHANNELS, height, width, dtype=torch.float64)
            expected = conv(x)
            assert other(x).shape == expected.shape
            assert (other(x) - expected).abs().max() <= 1e-14 * kernel**2 * expected.abs().max(), (height, width)


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """New memory is NaN, not whatever was there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("amounts", [((0, 1), (0, 1)), ((1, 1), (0, 1)), ((2, 3), (0, 0)), ((0, 0), (0, 0))])
def test_a_padded_copy_is_what_pad_gives(amounts: tuple[Size, Size], poisoned_memory: None) -> None:
    """Whichever way the images lie in memory. A border without its zeros would be NaN here."""
    vertical, horizontal = amounts
    images = torch.randn(2, 3, 6, 9)
    views = images, images.contiguous(memory_format=torch.channels_last), torch.randn(2, 5, 12, 9)[:, :3, ::2]
    for given in views:
        found = padded(given, vertical, horizontal)
        assert torch.equal(found, F.pad(given, (*horizontal, *vertical)))
        assert found.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("onednn", [True, False])
@torch.inference_mode()
def test_the_first_convolution_of_images_of_any_size(
    stride: int, onednn: bool, poisoned_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "HAS_ONEDNN", onednn)
    conv = SameConv2d(3, 32, 3, stride)
    first = FirstConv2d(conv.weight.detach(), None, (stride, stride))
    for size in ((1, 1), (5, 4), (6, 7), (64, 64), (65, 96)):
        for images in (torch.randn(2, 3, *size), noise(2, 3, *size)):
            expected, found = conv(images), first(images)
            assert found.shape == expected.shape
            assert (found - expected).abs().max() <= 1e-6 * expected.abs().max(), size
            assert found.is_contiguous(memory_format=torch.channels_last)


def indexed(x: torch.Tensor, size: Size) -> torch.Tensor:
    """Nearest neighbour as it is defined: source = floor(index * input / output)."""
    rows, columns = (torch.arange(out) * given // out for out, given in zip(size, x.shape[2:], strict=True))
    return x[:, :, rows][:, :, :, columns]


@torch.inference_mode()
def test_upsampling_gives_the_same_bits() -> None:
    axes = [(n, out) for n in range(1, 24) for out in range(n, 3 * n + 2)]
    draw = random.Random(1)
    for n, out in axes:
        m, other = draw.choice(axes)
        x = noise(1, CHANNELS, n, m)
        assert torch.equal(resize_nearest(x, (out, other)), indexed(x, (out, other))), (n, out, m, other)


@pytest.mark.parametrize("positions", [1, SMALL - 1, SMALL, 4 * SMALL])
@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_pointwise_convolution_by_either_way(positions: int, batch: int) -> None:
    conv = PointwiseConv2d(noise(5, 7, 1, 1), noise(1, 5, 1, 1).flatten())
    x = noise(batch, 7, 1, positions)
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double())
    found = conv(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - exact).abs().max() <= 1e-6 * exact.abs().max()
