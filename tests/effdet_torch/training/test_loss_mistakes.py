"""Mistakes that losses of ports make: each comes out of the limit of `test_loss.test_recorded_losses`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from effconv.effdet_torch.postprocessing.anchors import official_anchors
from effconv.effdet_torch.training.loss import Losses, LossSettings, detection_loss
from effconv.effdet_torch.training.targets import Targets, batch_targets, label_anchors
from recorded_losses import CONFIG, LOSS_LIMIT

Step = Callable[[list[Tensor], list[Tensor], Targets], Losses]
SMOOTHED = LossSettings(label_smoothing=0.1)


def with_settings(**changed: Any) -> Step:
    """The losses with other settings than SMOOTHED."""
    settings = LossSettings(**{"label_smoothing": 0.1, **changed})
    return lambda logits, codes, targets: detection_loss(logits, codes, targets, official(), settings)


def with_targets(change: Callable[[Targets], Targets]) -> Step:
    return lambda logits, codes, targets: detection_loss(logits, codes, change(targets), official(), SMOOTHED)


def rounded(dtype: torch.dtype) -> Step:
    """The losses of outputs that went through a narrower type."""

    def step(logits: list[Tensor], codes: list[Tensor], targets: Targets) -> Losses:
        narrow = [[each.to(dtype).float() for each in kind] for kind in (logits, codes)]
        return detection_loss(*narrow, targets, official(), SMOOTHED)

    return step


def result_rounded(dtype: torch.dtype) -> Step:
    """The losses themselves in a narrower type."""

    def step(*given: Any) -> Losses:
        return Losses(*(each.to(dtype).float() for each in with_settings()(*given)))

    return step


def official() -> Tensor:
    return torch.as_tensor(official_anchors(CONFIG))


MISTAKES: dict[str, Step] = {
    "gamma 2 instead of 1.5": with_settings(gamma=2.0),
    "alpha of the other class": with_settings(alpha=0.75),
    "no label smoothing": with_settings(label_smoothing=0.0),
    "Huber delta 1 instead of 0.1": with_settings(delta=1.0),
    "box weight 1": with_settings(box_weight=1.0),
    "the normaliser without its one": with_targets(lambda targets: targets._replace(positives=targets.positives - 1)),
    "codes of zero count": with_targets(lambda targets: targets._replace(codes=targets.codes + 1e-30)),
    "ignored anchors count": with_targets(lambda targets: targets._replace(classes=targets.classes.clamp(min=-1))),
    "outputs in bfloat16": rounded(torch.bfloat16),
    "outputs in float16": rounded(torch.float16),
    "losses in bfloat16": result_rounded(torch.bfloat16),
    "losses in float16": result_rounded(torch.float16),
}


def outputs_and_targets() -> tuple[list[Tensor], list[Tensor], Targets]:
    """Made-up outputs of two images, and targets of two boxes each; some anchors are ignored."""
    random = torch.Generator().manual_seed(5)
    levels = [(-(-128 // 2**level), -(-160 // 2**level)) for level in CONFIG.levels]
    channels = CONFIG.num_anchors * CONFIG.num_classes, CONFIG.num_anchors * 4
    logits, codes = ([torch.randn(2, count, *size, generator=random) for size in levels] for count in channels)
    boxes = torch.tensor([[8.0, 12.0, 60.0, 90.0], [50.0, 70.0, 110.0, 140.0]])
    targets = batch_targets([label_anchors(boxes + shift, torch.tensor([1, 3]), official()) for shift in (0, 7)])
    targets.classes[:, ::17] = torch.where(targets.classes[:, ::17] < 0, -2, targets.classes[:, ::17])
    return logits, codes, targets


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_losses_is_refused(mistake: str) -> None:
    given = outputs_and_targets()
    right, wrong = with_settings()(*given), MISTAKES[mistake](*given)
    gaps = [abs(float(one / other) - 1) for one, other in zip(wrong[:3], right[:3], strict=True)]
    print(mistake, gaps)
    assert max(gaps) > 10 * LOSS_LIMIT
