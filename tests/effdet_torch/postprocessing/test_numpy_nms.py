"""The official numpy suppression, worked out by hand; recorded runs are in test_postprocess.py."""

import pytest
import torch

from effconv.effdet_torch.postprocessing.nms import Candidates
from effconv.effdet_torch.postprocessing.numpy_nms import (
    NumpyPerClass,
    PixelDistance,
    PixelGaussian,
    PixelHard,
    PixelLinear,
)


def candidates(boxes: list[list[float]], scores: list[float], classes: list[int]) -> Candidates:
    return Candidates(
        torch.tensor([boxes]), torch.tensor([scores]), torch.tensor([classes]), torch.arange(len(boxes))[None]
    )


# With both edge pixels counted: 10 x 10 and 10 x 5, overlap 50 / 100; as real rectangles it would be 4/9.
PAIR = candidates([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 4.0]], [0.9, 0.8], [0, 0])


@pytest.mark.parametrize(
    ("suppression", "second"),
    [
        (PixelHard(0.5), 0.8),
        (PixelHard(0.49), None),
        # Centres 2.5 apart in 9 x 9: 0.5 - 6.25 / 162.
        (PixelDistance(0.462), 0.8),
        (PixelDistance(0.461), None),
        (PixelGaussian(0.5), 0.8 * 2.718281828 ** (-0.25 / 0.5)),
        (PixelGaussian(0.5, score_threshold=0.48), 0.8 * 2.718281828 ** (-0.25 / 0.5)),
        (PixelGaussian(0.5, score_threshold=0.49), None),
        (PixelLinear(0.3), 0.4),
        (PixelLinear(0.5), 0.8),
    ],
)
def test_two_boxes(suppression, second: float | None) -> None:
    ours = NumpyPerClass(suppression, max_outputs=3)(PAIR)
    assert ours.valid.item() == (1 if second is None else 2)
    assert ours.scores[0, 0].item() == pytest.approx(0.9)
    assert ours.scores[0, 1].item() == pytest.approx(-1e5 if second is None else second, rel=1e-6)
    assert ours.scores[0, 2].item() == -1e5
    assert ours.classes[0, 2].item() == 0
    assert not ours.boxes[0, 2].any()


def test_classes_do_not_compete_and_the_best_come_first() -> None:
    boxes = [[0.0, 0.0, 9.0, 9.0]] * 3
    ours = NumpyPerClass(PixelHard(), max_outputs=2)(candidates(boxes, [0.1, 0.9, 0.5], [0, 1, 2]))
    assert ours.classes.tolist() == [[2, 3]]
    assert ours.scores[0].tolist() == pytest.approx([0.9, 0.5])


def test_hard_has_no_score_threshold() -> None:
    ours = NumpyPerClass(PixelHard(), max_outputs=1)(candidates([[0.0, 0.0, 9.0, 9.0]], [0.0], [4]))
    assert (ours.valid.item(), ours.classes.item(), ours.scores.item()) == (1, 5, 0.0)
