"""The official labelling of anchors in TensorFlow: what the official code recorded."""

from pathlib import Path

import numpy as np
import pytest

from effconv.parity.reference.pipeline import official_anchor_boxes
from effconv.parity.reference.targets import official_targets
from recorded_losses import CONFIG

pytestmark = [pytest.mark.tf, pytest.mark.shared]


@pytest.mark.parametrize("image", [0, 1])
def test_recorded_targets(image: int, shared: Path) -> None:
    label = f"label_tiny-swish_{image}"
    with np.load(shared / "goldens" / "loss.npz") as record:
        boxes, classes = record[f"{label}/gt_boxes"], record[f"{label}/gt_classes"][:, 0].astype(np.int64) - 1
        kinds, codes = (
            np.concatenate([record[f"{label}/{kind}_targets_{level}"].reshape(shape) for level in CONFIG.levels])
            for kind, shape in (("cls", (-1,)), ("box", (-1, 4)))
        )
        positives = float(record[f"{label}/num_positives"])
    found = official_targets(boxes, classes, official_anchor_boxes(CONFIG))
    assert np.array_equal(found.classes, kinds)
    assert found.positives == positives > 0
    assert np.abs(found.codes - codes).max() <= 2.0**-22  # a division and a logarithm, of codes below 4


def test_no_box_is_all_background() -> None:
    anchors = official_anchor_boxes(CONFIG)
    found = official_targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), anchors)
    assert found.positives == 0
    assert set(found.classes) == {-1}
    assert not found.codes.any()
