"""Which pairs go into suppression, and in which order: against a full sort, ties included."""

import numpy as np
import pytest
import torch
from torch import Tensor

from effconv.effdet_torch.postprocessing.candidates import TopPairs, all_pairs, best_class, flatten_levels


def sorted_pairs(logits: Tensor, count: int) -> np.ndarray:
    """Flat indices (B, count) by logit descending, then index: the definition, by sorting everything."""
    flat = logits.flatten(1).numpy()
    return np.stack([np.lexsort((np.arange(row.size), -row))[:count] for row in flat])


def flat_indices(logits: Tensor, count: int) -> np.ndarray:
    selection = TopPairs(count)(logits)
    flat = (selection.anchors * logits.shape[2] + selection.classes).numpy()
    for image, indices in enumerate(flat):
        assert np.array_equal(logits[image].flatten()[indices].numpy(), selection.logits[image].numpy())
    return flat


@pytest.mark.parametrize("levels", [1, 2, 8, 1000])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 40, 7), (1, 300, 5), (2, 60, 1)])
@pytest.mark.parametrize("count", [1, 50, 5000])
def test_top_pairs_are_those_of_a_full_sort(shape: tuple[int, int, int], levels: int, count: int) -> None:
    random = np.random.default_rng(count + levels)
    values = (random.integers(0, levels, shape) - levels // 2) / 4  # few levels: many ties; both signs
    logits = torch.from_numpy(values.astype(np.float32))
    total = min(count, shape[1] * shape[2])
    assert np.array_equal(flat_indices(logits, count), sorted_pairs(logits, total))


def test_minus_zero_equals_zero_and_infinity_is_last() -> None:
    logits = torch.tensor([[[-0.0, 0.0], [0.0, -torch.inf], [-1.0, 1.0]]])
    assert flat_indices(logits, 6).tolist() == [[5, 0, 1, 2, 4, 3]]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nan_comes_first_so_that_it_is_noticed(sign: float) -> None:
    logits = torch.zeros(1, 20, 3)
    logits[0, 13, 1] = torch.tensor(torch.nan).copysign(torch.tensor(sign))
    assert TopPairs(2)(logits).logits[0, 0].isnan()


def test_best_class_takes_the_first_of_equals() -> None:
    selection = best_class(torch.tensor([[[1.0, 3.0, 3.0], [0.0, 0.0, -1.0]]]))
    assert selection.classes.tolist() == [[1, 0]]
    assert selection.anchors.tolist() == [[0, 1]]
    assert selection.logits.tolist() == [[3.0, 0.0]]


def test_all_pairs_are_by_anchor_then_class() -> None:
    selection = all_pairs(torch.arange(6.0).reshape(1, 3, 2))
    assert selection.logits.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert selection.anchors.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert selection.classes.tolist() == [[0, 1, 0, 1, 0, 1]]


def test_flattening_is_row_column_anchor_value() -> None:
    # Channel a*2 + c of a 2 x 3 map holds its own coordinates as digits: row, column, anchor, value.
    anchors, values, height, width = 4, 2, 2, 3
    digits = [
        [[1000 * y + 100 * x + 10 * a + c for x in range(width)] for y in range(height)]
        for a in range(anchors)
        for c in range(values)
    ]
    level = torch.tensor(digits, dtype=torch.float32)[None]
    flat = flatten_levels([level, level + 5000], values)
    order = [
        [1000 * y + 100 * x + 10 * a + c for c in range(values)]
        for y in range(height)
        for x in range(width)
        for a in range(anchors)
    ]
    assert flat[0].tolist() == order + [[value + 5000 for value in row] for row in order]
    channels_last = [level.contiguous(memory_format=torch.channels_last), level + 5000]
    assert torch.equal(flat, flatten_levels(channels_last, values))


def test_no_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, found 0"):
        TopPairs(0)
