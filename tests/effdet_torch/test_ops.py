"""TensorFlow's own operations: against TensorFlow where it is installed, against plain definitions everywhere."""

import numpy as np
import pytest
import torch

from effconv.effdet_torch.ops import (
    BatchNorm,
    SameConv2d,
    make_activation,
    resize_nearest,
    same_max_pool,
    same_padding,
)

SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 13, 16)


def test_same_padding_is_the_documented_formula() -> None:
    # (size, kernel, stride): (before, after), worked out by hand from TensorFlow's documentation of SAME.
    cases = {
        (512, 3, 2): (0, 1),
        (511, 3, 2): (1, 1),
        (5, 5, 2): (2, 2),
        (6, 5, 2): (1, 2),
        (7, 3, 1): (1, 1),
        (1, 3, 2): (1, 1),
        (4, 1, 2): (0, 0),
    }
    assert {case: same_padding(*case) for case in cases} == cases


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_same_windows_cover_as_tensorflow_documents(kernel: int, stride: int) -> None:
    for size in range(1, 70):
        before, after = same_padding(size, kernel, stride)
        assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
        assert 0 <= after - before <= 1


def test_nearest_resize_index_equals_tensorflows_float32_arithmetic() -> None:
    # TensorFlow computes floor(index * float32(input / output)); the feature sizes of one level and the next below are
    # n and 2n or 2n - 1.
    for size in range(1, 513):
        for out in {size, max(2 * size - 1, 1), 2 * size}:
            scale = np.float32(size) / np.float32(out)
            theirs = np.minimum(np.floor(np.arange(out, dtype=np.float32) * scale).astype(np.int64), size - 1)
            given = torch.arange(size, dtype=torch.float64).reshape(1, 1, 1, size)
            ours = resize_nearest(given, (1, out)).flatten().numpy()
            assert np.array_equal(ours, theirs), (size, out)


def test_max_pool_pads_with_minus_infinity() -> None:
    negative = -torch.ones(1, 1, 4, 4)
    assert torch.equal(same_max_pool(negative, (3, 3), (2, 2)), -torch.ones(1, 1, 2, 2))


def test_batch_norm_uses_tensorflows_constants_and_has_no_counter() -> None:
    norm = BatchNorm(2)
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    norm.eval()
    x = torch.full((1, 2, 1, 1), 3.0)
    assert torch.allclose(norm(x), torch.full((1, 2, 1, 1), 3.0 / (1 + 1e-3) ** 0.5), rtol=1e-7)


def test_activations() -> None:
    x = torch.tensor([-3.0, 0.0, 2.0, 9.0])
    assert torch.allclose(make_activation("swish")(x), x * torch.sigmoid(x))
    assert torch.equal(make_activation("relu6")(x), torch.tensor([0.0, 0.0, 2.0, 6.0]))


@pytest.mark.tf
class TestAgainstTensorFlow:
    """Every size and both parities; TensorFlow's CPU kernels in float64 leave no room for rounding."""

    @pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
    @pytest.mark.parametrize("depthwise", [False, True])
    def test_convolution(self, kernel: int, stride: int, depthwise: bool) -> None:
        import tensorflow as tf

        random = np.random.default_rng(kernel * 10 + stride)
        weight = random.standard_normal((kernel, kernel, 3, 1 if depthwise else 4))
        conv = SameConv2d(3, 3 if depthwise else 4, kernel, stride, groups=3 if depthwise else 1).double()
        axes = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        conv.weight.data = torch.from_numpy(weight.transpose(axes).copy())
        operation = tf.nn.depthwise_conv2d if depthwise else tf.nn.conv2d
        for height in SIZES:
            for width in SIZES:
                x = random.standard_normal((2, height, width, 3))
                theirs = operation(x, weight, [1, stride, stride, 1], "SAME").numpy()
                with torch.inference_mode():
                    ours = conv(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
                assert ours.shape == theirs.shape
                assert np.abs(ours - theirs).max() <= 1e-13 * max(np.abs(theirs).max(), 1), (height, width)

    @pytest.mark.parametrize("stride", [1, 2, 3])
    def test_max_pool(self, stride: int) -> None:
        import tensorflow as tf

        random = np.random.default_rng(stride)
        for height in SIZES:
            for width in SIZES:
                x = random.standard_normal((2, height, width, 3)).astype(np.float32) - 5
                theirs = tf.nn.max_pool2d(x, stride + 1, stride, "SAME").numpy()
                pooled = same_max_pool(torch.from_numpy(x).permute(0, 3, 1, 2), (stride + 1,) * 2, (stride,) * 2)
                assert np.array_equal(pooled.permute(0, 2, 3, 1).numpy(), theirs), (height, width)

    def test_nearest_resize(self) -> None:
        import tensorflow as tf

        random = np.random.default_rng(0)
        for height in SIZES:
            for width in SIZES:
                x = random.standard_normal((1, height, width, 2)).astype(np.float32)
                for size in (
                    (2 * height, 2 * width),
                    (2 * height - 1, 2 * width),
                    (2 * height, 2 * width - 1),
                    (height, width),
                ):
                    theirs = tf.compat.v1.image.resize_nearest_neighbor(x, size).numpy()
                    ours = resize_nearest(torch.from_numpy(x).permute(0, 3, 1, 2), size).permute(0, 2, 3, 1).numpy()
                    assert np.array_equal(ours, theirs), (height, width, size)
