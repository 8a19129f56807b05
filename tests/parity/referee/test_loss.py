"""`effconv.compare_loss`: planted faults are found at their stage and named, and the same function holds."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import effconv
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.effdet_torch.postprocessing.anchors import feature_sizes, legacy_anchors
from effconv.effdet_torch.postprocessing.candidates import flatten_levels
from effconv.effdet_torch.training import targets as our_targets
from effconv.effdet_torch.training.loss import LossSettings
from effconv.errors import EffconvError
from effconv.parity.referee.loss import ALGORITHM, UNKNOWN, LossComparison
from effconv.parity.referee.loss_sides import EffdetLoss, Labels, LossSide, OurLoss, SideLosses, half_square_sum
from recorded_losses import CONFIG

BOXES = [
    torch.tensor([[8.0, 12.0, 60.0, 90.0], [50.0, 70.0, 110.0, 140.0]]),
    torch.tensor([[3.0, 3.0, 20.0, 33.0], [40.0, 40.0, 90.0, 88.0], [100.0, 10.0, 120.0, 44.0]]),
]
CLASSES = [torch.tensor([1, 3]), torch.tensor([0, 2, 1])]


def outputs(config: Any = CONFIG, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Made-up outputs of two images' heads, mostly background."""
    random = torch.Generator().manual_seed(seed)

    def maps(values: int, spread: float, mean: float) -> list[Tensor]:
        shapes = [(2, config.num_anchors * values, *size) for size in feature_sizes(config)]
        return [torch.randn(shape, generator=random, dtype=torch.float64) * spread + mean for shape in shapes]

    return maps(config.num_classes, 1.5, -2.0), maps(4, 0.3, 0.0)


def compared(side: LossSide | str, tensorflow: bool = False, model: Any = CONFIG) -> LossComparison:
    config = model.config if isinstance(model, EfficientDet) else model
    return effconv.compare_loss(side, model, *outputs(config), BOXES, CLASSES, tensorflow=tensorflow)


class PlainLoss(OurLoss):
    """The formulas of the papers in PyTorch's plain operations; the faults below are changes of it."""

    label = "a plain loss"
    alpha, gamma, smoothing, delta, box_weight, ignored = 0.25, 1.5, 0.0, 0.1, 50.0, -2

    def losses(self, class_logits: Sequence[Tensor], box_codes: Sequence[Tensor], labels: Labels) -> SideLosses:
        logits, codes = flatten_levels(class_logits, self.config.num_classes), flatten_levels(box_codes, 4)
        true = functional.one_hot(labels.classes.clamp(min=0), logits.shape[-1]).to(logits)
        true = true * (labels.classes >= 0)[..., None]
        p = logits.sigmoid()
        miss = true * (1 - p) + (1 - true) * p
        smoothed = true * (1 - self.smoothing) + self.smoothing / 2
        cross = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
        focal = (true * self.alpha + (1 - true) * (1 - self.alpha)) * miss**self.gamma * cross
        focal = focal * (labels.classes != self.ignored)[..., None]
        huber = functional.huber_loss(codes, labels.codes, reduction="none", delta=self.delta)
        huber = huber * (labels.codes != 0)
        classes, boxes = self.normalised(focal.sum((1, 2)), labels), self.normalised(huber.sum((1, 2)), labels) / 4
        return SideLosses(float(classes + self.box_weight * boxes), float(classes), float(boxes))

    def normalised(self, sums: Tensor, labels: Labels) -> Tensor:
        return sums.sum() / (labels.positives.sum() + 1)


def test_the_same_function_written_otherwise_holds() -> None:
    torch.manual_seed(0)
    found = compared(PlainLoss(CONFIG), model=EfficientDet(CONFIG))
    assert found.ok
    assert found.first_fault is None
    assert "every stage" in found.verdict
    assert max(row.difference for row in found.rows if row.difference is not None) < ALGORITHM
    assert [row.stage for row in found.rows][-2:] == ["weight decay", "total"]
    assert found.loss_theirs == pytest.approx(found.loss_ours, rel=1e-12)


@pytest.mark.tf
def test_tensorflow_agrees_with_ours_at_every_stage() -> None:
    torch.manual_seed(0)
    found = compared(PlainLoss(CONFIG), tensorflow=True, model=EfficientDet(CONFIG))
    assert found.official is not None
    assert found.official.startswith("TensorFlow")
    for row in found.rows:
        assert row.official_difference is not None
        assert row.official_difference <= row.limit, row


def plain(**changed: Any) -> LossSide:
    side = PlainLoss(CONFIG)
    for name, value in changed.items():
        assert hasattr(side, name)
        setattr(side, name, value)
    return side


def of_targets(change: Callable[[Labels], Labels]) -> LossSide:
    side = PlainLoss(CONFIG)
    right = side.targets
    return plain(targets=lambda *given: change(right(*given)))


def with_threshold(threshold: float) -> LossSide:
    def targets(*given: Any) -> Labels:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(our_targets, "MATCHED_IOU", threshold)
            return OurLoss(CONFIG).targets(*given)

    return plain(targets=targets)


def own_positives(sums: Tensor, labels: Labels) -> Tensor:
    return (sums / (labels.positives + 1)).mean()


def all_decayed(weights: EfficientDet, factor: float) -> float:
    return factor * half_square_sum(weights.parameters())


FAULTS: dict[str, tuple[LossSide, str, str]] = {
    "legacy anchors": (plain(anchors=lambda: legacy_anchors(CONFIG)), "anchors", "aspects (1.4, 0.7)"),
    "label off by one": (
        of_targets(lambda found: found._replace(classes=torch.where(found.classes >= 0, found.classes + 1, -1))),
        "classes of anchors",
        "one higher",
    ),
    "target threshold": (with_threshold(0.4), "classes of anchors", "an overlap of 0.4"),
    "x before y": (
        of_targets(lambda found: found._replace(codes=found.codes[..., [1, 0, 3, 2]])),
        "box targets",
        "x before y",
    ),
    "codes scaled": (
        of_targets(lambda found: found._replace(codes=found.codes * torch.tensor([10.0, 10.0, 5.0, 5.0]))),
        "box targets",
        "multiplied by 10 and 5",
    ),
    "positives of the batch": (
        of_targets(lambda found: found._replace(positives=found.positives.sum().expand(2))),
        "positives",
        "for each image",
    ),
    "alpha": (plain(alpha=0.75), "class loss", "alpha is 0.75, not 0.25"),
    "gamma": (plain(gamma=2.0), "class loss", "gamma is 2.0, not 1.5"),
    "label smoothing": (plain(smoothing=0.1), "class loss", "label smoothing is 0.1"),
    "gamma of nobody": (plain(gamma=1.7), "class loss", UNKNOWN),
    "ignored anchors count": (plain(ignored=-3), "ignored anchors", "count as background"),
    "delta": (plain(delta=1.0), "box loss", "delta is 1, not 0.1"),
    "no plus one": (
        plain(normalised=lambda sums, labels: sums.sum() / labels.positives.sum()),
        "normaliser",
        "without one more",
    ),
    "normaliser of each image": (plain(normalised=own_positives), "normaliser", "each image by its own positives"),
    "box weight": (plain(box_weight=1.0), "box weight", "weighs 1, not 50"),
    "decay": (plain(decay=all_decayed), "weight decay", "every tensor"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_at_its_stage_and_named(fault: str) -> None:
    side, stage, sentence = FAULTS[fault]
    torch.manual_seed(0)
    found = compared(side, model=EfficientDet(CONFIG))
    assert not found.ok
    assert found.first_fault is not None
    assert found.first_fault.stage == stage
    assert sentence in found.first_fault.why
    assert sentence in str(found)
    assert LossComparison.read(found.plain()) == found


def test_a_fault_of_one_stage_leaves_the_others_alone() -> None:
    """Each stage is fed what ours gives: other anchors make no other targets or losses here."""
    found = compared(FAULTS["legacy anchors"][0])
    assert [row.stage for row in found.rows if not row.ok] == ["anchors"]
    assert found.loss_theirs != pytest.approx(found.loss_ours, rel=1e-4)


def test_anchors_of_another_number() -> None:
    found = compared(plain(anchors=lambda: legacy_anchors(CONFIG)[:-9]))
    assert found.first_fault is not None
    assert "values in place of" in found.first_fault.why
    assert found.loss_theirs is None


def test_what_is_refused() -> None:
    logits, codes = outputs()
    nothing = [torch.zeros(0, 4)] * 2
    with pytest.raises(EffconvError, match="no image has a box"):
        effconv.compare_loss(plain(), CONFIG, logits, codes, nothing, [torch.zeros(0)] * 2)
    with pytest.raises(EffconvError, match="outputs of 2 images, boxes of 1"):
        effconv.compare_loss(plain(), CONFIG, logits, codes, BOXES[:1], CLASSES[:1])
    with pytest.raises(EffconvError, match="only that of effdet"):
        compared("nobody")
    with pytest.raises(EffconvError, match="does not depend on the number of positives"):
        compared(plain(normalised=lambda sums, labels: sums.sum()))


def test_an_image_without_boxes_is_compared_too() -> None:
    logits, codes = outputs()
    boxes, classes = [BOXES[0], torch.zeros(0, 4)], [CLASSES[0], torch.zeros(0, dtype=torch.int64)]
    found = effconv.compare_loss(plain(), CONFIG, logits, codes, boxes, classes, tensorflow=False)
    assert found.ok
    assert np.isfinite([row.ours for row in found.rows]).all()


def test_other_settings_are_what_is_asked_for() -> None:
    logits, codes = outputs()
    settings = LossSettings(alpha=0.75, gamma=2.0, delta=1.0)
    side = plain(alpha=0.75, gamma=2.0, delta=1.0)
    assert effconv.compare_loss(side, CONFIG, logits, codes, BOXES, CLASSES, settings=settings, tensorflow=False).ok


# --- effdet's own ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def effdet() -> Any:
    return pytest.importorskip("effdet", reason="effdet is not installed: pip install effdet==0.4.1")


@pytest.fixture
def d0() -> Any:
    return dataclasses.replace(get_config("d0"), image_size=(128, 160))


def test_effdets_loss_differs_by_its_anchors_alone(effdet: Any, d0: Any) -> None:
    found = compared("effdet", model=d0)
    assert [row.stage for row in found.rows if not row.ok] == ["anchors"]
    assert found.first_fault is not None
    assert "before 2020-09-10" in found.first_fault.why


@pytest.mark.parametrize(
    ("name", "value", "stage"),
    [
        ("alpha", 0.5, "class loss"),
        ("gamma", 2.0, "class loss"),
        ("delta", 1.0, "box loss"),
        ("box_loss_weight", 1.0, "box weight"),
    ],
)
def test_a_fault_planted_in_effdets_loss(name: str, value: float, stage: str, effdet: Any, d0: Any) -> None:
    side = EffdetLoss(d0)
    setattr(side.loss, name, value)
    found = compared(side, model=d0)
    wrong = [row.stage for row in found.rows if not row.ok]
    assert wrong[:2] == ["anchors", stage]
    assert wrong[-1] == "total"
    assert UNKNOWN not in [row.why for row in found.rows]
