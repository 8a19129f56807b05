"""The compiled choice of pairs beside the one in tensor operations: the same pairs, in the same order."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from effconv.effdet_torch.postprocessing import top_pairs as compiled
from effconv.effdet_torch.postprocessing.candidates import Selection, TopPairs, flatten_levels

ANCHORS = 3
SIZES = ((4, 5), (2, 3), (1, 1))
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels first": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "neither": lambda x: torch.stack([x, x], -1)[..., 0],
}


def outputs(classes: int, levels: int, batch: int = 2) -> list[Tensor]:
    """Logits of few values: many ties, both signs, zeros of either sign, infinities."""
    random = np.random.default_rng(classes + levels)
    found = []
    for size in SIZES:
        values = (random.integers(0, levels, (batch, ANCHORS * classes, *size)) - levels // 2) / np.float32(4)
        values = np.where(random.random(values.shape) < 0.3, -values, values)  # of zero: minus zero
        found.append(torch.from_numpy(values.astype(np.float32)))
    found[0][0, 0, 0, 0], found[1][-1, -1, -1, -1] = torch.inf, -torch.inf
    return found


def require_same(found: Selection | None, expected: Selection) -> None:
    assert found is not None
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("levels", [2, 9, 100000])
@pytest.mark.parametrize("classes", [1, 7])
@pytest.mark.parametrize("count", [1, 20, 81, 82, 300, 5000])
def test_the_same_pairs_in_the_same_order(count: int, classes: int, levels: int, layout: str) -> None:
    given = [LAYOUTS[layout](level) for level in outputs(classes, levels)]
    require_same(TopPairs(count).of_levels(given, classes), TopPairs(count)(flatten_levels(given, classes)))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_is_left_to_tensor_operations(layout: str, sign: float) -> None:
    given = [LAYOUTS[layout](level) for level in outputs(7, 9)]
    given[1][1, 2, 0, 0] = torch.tensor(torch.nan).copysign(torch.tensor(sign))
    assert TopPairs(20).of_levels(given, 7) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_tensor_operations(dtype: torch.dtype) -> None:
    assert TopPairs(20).of_levels([level.to(dtype) for level in outputs(7, 9)], 7) is None


def test_outputs_are_read_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of D0's is 17 MB."""
    read = []
    right = compiled.top_pairs

    def watched(levels: list[compiled.Level], *rest: int) -> object:
        read.extend(level.bits.__array_interface__["data"][0] for level in levels)
        return right(levels, *rest)

    monkeypatch.setattr(compiled, "top_pairs", watched)
    for layout in ("channels first", "channels last"):
        read.clear()
        given = [LAYOUTS[layout](level) for level in outputs(7, 9, batch=1)]
        TopPairs(20).of_levels(given, 7)
        assert read == [level.data_ptr() for level in given]
