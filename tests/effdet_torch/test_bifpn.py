"""What a BiFPN node does with a feature map of another size."""

import pytest
import torch

from effconv.effdet_torch.bifpn import ImageSizeError, Resample


@pytest.mark.parametrize(
    ("size", "values"),
    [
        ((4, 4), "as it is"),
        ((2, 2), "pooled"),
        ((3, 3), "pooled"),
        ((1, 2), "pooled"),
        ((8, 8), "repeated"),
        ((4, 8), "repeated"),
        ((8, 4), "repeated"),
    ],
)
def test_a_map_is_pooled_where_both_sides_shrink_and_repeated_where_none_does(
    size: tuple[int, int], values: str
) -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = Resample(1, 1).resize(x, size)
    assert found.shape[2] <= size[0] if values == "pooled" else found.shape[2:] == size
    if values == "as it is":
        assert found is x
    if values == "repeated":
        assert torch.equal(found, x.repeat_interleave(size[0] // 4, 2).repeat_interleave(size[1] // 4, 3))
    if values == "pooled":  # the last window, wherever it begins, has the last value
        assert found[0, 0, -1, -1] == 15
        assert found.numel() < 16


@pytest.mark.parametrize("size", [(4, 2), (2, 4), (8, 2), (2, 8)])
def test_one_side_alone_cannot_shrink(size: tuple[int, int]) -> None:
    with pytest.raises(ImageSizeError, match=f"a 4x4 feature map cannot become {size[0]}x{size[1]}"):
        Resample(1, 1).resize(torch.zeros(1, 1, 4, 4), size)
