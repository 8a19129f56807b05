"""What a `.pth` holds under which name, and which files are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from effconv.effdet_torch.pickled import read_pickle
from effconv.errors import CheckpointError

RAW, AVERAGE = {"weight": torch.zeros(2)}, {"weight": torch.ones(2)}


def saved(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize("content", [RAW, {"state_dict": RAW}, {"model": RAW, "state_dict_ema": None}])
def test_moving_averages_that_are_not_there_are_not_made_up(content: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path, content)
    assert np.array_equal(read_pickle(path)["weight"], [0, 0])
    with pytest.raises(CheckpointError, match=r"holds no moving averages .*use its raw weights") as caught:
        read_pickle(path, "ema")
    assert caught.value.parameters == {"weights": "raw"}


@pytest.mark.parametrize(("weights", "expected"), [(None, 1), ("ema", 1), ("raw", 0)])
def test_moving_averages_are_taken_where_there_are_any(weights: str | None, expected: int, tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": RAW, "state_dict_ema": AVERAGE, "epoch": 3})
    assert np.array_equal(read_pickle(path, weights)["weight"], [expected, expected])


@pytest.mark.parametrize("weights", [None, "raw", "ema"])
def test_what_is_no_dictionary_is_refused(weights: str | None, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.pth: "):
        read_pickle(saved(tmp_path, [torch.zeros(2)]), weights)
