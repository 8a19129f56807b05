"""Anybody's anchors, targets and losses beside the official ones, stage by stage: `effconv.compare_loss`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ...effdet_torch.config import Config, get_config
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.training.loss import LossSettings
from ...errors import EffconvError
from ..plain import Plain
from .loss_mistakes import Ours, known_mistakes
from .loss_sides import OFFICIAL_SETTINGS, LossSide, OfficialLoss, OurLoss, side_of
from .loss_stages import SUMMARIES, Given, Values, own_total, stages
from .reference_run import in_float64

ALGORITHM = 1e-9  # of losses in float64: rounding is below 1e-12, another gamma or delta above 1e-3
UNIT = 2.0**-24  # of float32, in which anchors and targets are made on every side
UNKNOWN = "it is none of the mistakes known here"


@dataclass(frozen=True, kw_only=True)
class LossRow(Plain):
    """One stage. The other side is fed what our earlier stages gave, so a row is wrong by its own fault alone."""

    stage: str
    what: str  # the three numbers are
    ours: float
    official: float | None  # TensorFlow's; None where it was not asked for
    theirs: float | None  # None where the side says nothing of it
    difference: float | None  # theirs: largest |theirs - ours|, of the largest of ours; of classes, how many are others
    official_difference: float | None
    limit: float
    ok: bool
    why: str = ""  # of what differs


@dataclass(frozen=True, kw_only=True)
class LossComparison(Plain):
    """What `effconv.compare_loss` returns."""

    theirs: str
    official: str | None
    model: str
    image_size: tuple[int, int]
    images: int
    boxes: int
    rows: tuple[LossRow, ...]
    loss_ours: float  # by our own anchors and targets
    loss_theirs: float | None  # by theirs: what each would train with; None where those are not as many

    @property
    def ok(self) -> bool:
        """Whether every stage holds."""
        return all(row.ok for row in self.rows)

    @property
    def first_fault(self) -> LossRow | None:
        """The first stage that differs."""
        return next((row for row in self.rows if not row.ok), None)

    @property
    def verdict(self) -> str:
        """One line."""
        fault = self.first_fault
        if fault is None:
            return f"{self.theirs}: every stage of the loss is the official one"
        return f"{self.theirs}: first differs at {fault.stage}: {fault.why}"

    def __str__(self) -> str:
        return self.verdict


def compare_loss(
    theirs: LossSide | str,
    model: Config | EfficientDet | str,
    class_logits: Sequence[Tensor],
    box_codes: Sequence[Tensor],
    boxes: Sequence[Tensor],
    classes: Sequence[Tensor],
    *,
    settings: LossSettings = OFFICIAL_SETTINGS,
    weight_decay: float = 4e-5,
    tensorflow: bool = True,
) -> LossComparison:
    """Walk anchors, targets and losses of another implementation beside ours, and name the first stage that differs.

    `theirs` is a `LossSide`, or "effdet". The outputs of heads, whose ever, are by level: `class_logits` (B, A*C, h, w)
    and `box_codes` (B, A*4, h, w). Each of the B images has true `boxes` (N, 4) [ymin, xmin, ymax, xmax] in input
    pixels, at least one of all, of `classes` (N,) from 0. `settings` are what the other side should have; a network in
    place of its config lets weight decay be compared too. TensorFlow stands beside both unless `tensorflow` is false.

    Anchors and targets are compared in float32, as all sides make them, losses in float64. Raises EffconvError.
    """
    weights = in_float64(model) if isinstance(model, EfficientDet) else None
    config = weights.config if weights else get_config(model) if isinstance(model, str) else model
    assert isinstance(config, Config)
    ours = OurLoss(config, settings)
    given = _given(ours, class_logits, box_codes, boxes, classes)
    side = side_of(theirs, config)
    mine = stages(ours, given, weights, weight_decay)
    official_side = OfficialLoss(config, settings) if tensorflow else None
    official = stages(official_side, given, weights, weight_decay) if official_side else None
    found = stages(side, given, weights, weight_decay)
    changed = Ours(config, settings, given, weights, weight_decay)
    return LossComparison(
        theirs=side.label,
        official=official_side.label if official_side else None,
        model=config.name,
        image_size=config.image_size,
        images=len(boxes),
        boxes=sum(map(len, boxes)),
        rows=tuple(_row(stage, mine, found, official, changed) for stage in mine),
        loss_ours=own_total(ours, given),
        loss_theirs=own_total(side, given) if found["anchors"].shape == mine["anchors"].shape else None,
    )


def _given(
    ours: OurLoss,
    class_logits: Sequence[Tensor],
    box_codes: Sequence[Tensor],
    boxes: Sequence[Tensor],
    classes: Sequence[Tensor],
) -> Given:
    if not len(class_logits[0]) == len(boxes) == len(classes):
        raise EffconvError(
            f"outputs of {len(class_logits[0])} images, boxes of {len(boxes)}, classes of {len(classes)}: "
            "expected as many of each"
        )
    if not sum(map(len, boxes)):
        raise EffconvError("no image has a box, and without one most of the loss is zero; give at least one")
    boxes, classes, anchors = [each.float() for each in boxes], [each.long() for each in classes], ours.anchors()
    labels = ours.targets(boxes, classes, anchors)
    wide = labels._replace(codes=labels.codes.double(), positives=labels.positives.double())
    logits, codes = ([level.detach().cpu().double() for level in maps] for maps in (class_logits, box_codes))
    return Given(logits, codes, boxes, classes, anchors, wide)


def _row(
    stage: str,
    ours: Mapping[str, Values],
    theirs: Mapping[str, Values],
    official: Mapping[str, Values] | None,
    changed: Ours,
) -> LossRow:
    what, summary = SUMMARIES[stage]
    limit = _limit(stage, changed.given)
    right, found = ours[stage], theirs.get(stage)
    difference = None if found is None else _difference(stage, found, right)
    ok = difference is None or difference <= limit
    return LossRow(
        stage=stage,
        what=what,
        ours=summary(right),
        official=summary(official[stage]) if official else None,
        theirs=None if found is None else summary(found),
        difference=difference,
        official_difference=_difference(stage, official[stage], right) if official else None,
        limit=limit,
        ok=ok,
        why="" if ok or found is None else _why(stage, found, right, changed, limit),
    )


def _limit(stage: str, given: Given) -> float:
    """What rounding may make of the stage's difference."""
    if stage in ("classes of anchors", "positives"):
        return 0.0
    if stage == "anchors":
        return 2 * UNIT  # each side rounds a coordinate to float32 once
    if stage == "box targets":
        # A position code is (y - ya) / ha, both of which are rounded three times; divided by the largest code, as the
        # difference is. Another coding is off by the size of codes themselves.
        sides = given.anchors[:, 2:] - given.anchors[:, :2]
        farthest = max(float(each.abs().max()) for each in (*given.boxes, given.anchors) if len(each))
        return 16 * UNIT * (1 + 2 * farthest / float(sides.min())) / float(given.labels.codes.abs().max())
    return ALGORITHM


def _difference(stage: str, found: Values, right: Values) -> float:
    """Infinite for another shape and for what is not finite."""
    if found.shape != right.shape or not np.isfinite(found).all():
        return float("inf")
    if stage in ("classes of anchors", "positives"):
        return float((found != right).sum())
    return float(np.abs(found - right).max() / np.abs(right).max())


def _why(stage: str, found: Values, right: Values, changed: Ours, limit: float) -> str:
    """The known mistake that gives their values, in a sentence; of the total, what it is made of."""
    if stage == "total":
        return "it is the sum of what differs above"
    if found.shape != right.shape:
        return f"it has {' x '.join(map(str, found.shape))} values in place of {' x '.join(map(str, right.shape))}"
    for sentence, values in known_mistakes(stage, changed):
        if values.shape == found.shape and _difference(stage, found, values) <= limit:
            return sentence
    return UNKNOWN
