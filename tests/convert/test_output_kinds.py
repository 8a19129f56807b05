"""Weights of the user's are never taken for weights that effconv wrote."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from effconv.convert.output_kinds import WEIGHTS, may_replace


@pytest.mark.parametrize(
    ("metadata", "ours"),
    [
        ({"effconv": "{}"}, True),
        ({"effconv.config": "{}"}, True),  # as they were written before there were checksums
        ({"format": "pt"}, False),  # as the Hugging Face libraries write them
        ({"effconv2": "{}"}, False),
        (None, False),
    ],
)
def test_weights_are_replaced_when_they_say_that_they_are_ours(
    metadata: dict[str, str] | None, ours: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": np.zeros(2, np.float32)}, path, metadata)
    assert may_replace(path, WEIGHTS) is ours
