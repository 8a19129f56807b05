"""What other losses are known to do otherwise: each as a sentence and the values our own code would then have."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...effdet_torch.config import Config
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.anchors import encode_boxes, legacy_anchors, official_anchors
from ...effdet_torch.training.loss import LossSettings
from ...effdet_torch.training.targets import BACKGROUND, intersection_over_union
from .loss_sides import Labels, OurLoss, half_square_sum
from .loss_stages import Given, box_sum, class_sum, ignoring_some

Values = NDArray[np.float64]
Known = Iterator[tuple[str, Values]]


class Ours(NamedTuple):
    """What is changed: our side, and what both sides are given."""

    config: Config
    settings: LossSettings
    given: Given
    weights: EfficientDet | None
    decay: float


def known_mistakes(stage: str, ours: Ours) -> Known:
    """(sentence about the other side, the stage's values if it is true) of every mistake known of a stage."""
    return MISTAKES[stage](ours)


def _anchors(ours: Ours) -> Known:
    right = official_anchors(ours.config)
    yield (
        "its anchors have the aspects (1.4, 0.7) and (0.7, 1.4) of the official code before 2020-09-10 in place of "
        "sqrt(2) and its inverse",
        legacy_anchors(ours.config).double().numpy(),
    )
    yield "its anchors have x before y", right[:, [1, 0, 3, 2]].double().numpy()
    centre, side = (right[:, :2] + right[:, 2:]) / 2, right[:, 2:] - right[:, :2]
    yield "its anchors are centres and sides, not corners", torch.cat([centre, side], 1).double().numpy()


def _matching(ours: Ours) -> Known:
    right = ours.given.labels.classes
    for shift in (1, -1):
        way = "higher" if shift > 0 else "lower"
        yield f"its class numbers are one {way}", torch.where(right >= 0, right + shift, right).double().numpy()
    for threshold in (0.3, 0.4, 0.6, 0.7):
        yield (
            f"an anchor takes a box from an overlap of {threshold} on, not 0.5",
            matched(ours.given, threshold, forced=True),
        )
    yield "a box is not given its best anchor where that overlaps less than 0.5", matched(ours.given, 0.5, forced=False)


def matched(given: Given, threshold: float, forced: bool) -> Values:
    """(B, M) classes of anchors by another rule than the official one."""
    rows = []
    for boxes, classes in zip(given.boxes, given.classes, strict=True):
        overlaps = intersection_over_union(boxes, given.anchors)
        most, box_of = overlaps.max(0)
        kinds = torch.where(most >= threshold, classes[box_of], BACKGROUND)
        for box in range(len(boxes) - 1, -1, -1) if forced else ():
            kinds[overlaps[box].argmax()] = classes[box]
        rows.append(kinds)
    return torch.stack(rows).double().numpy()


def _codes(ours: Ours) -> Known:
    right = ours.given.labels.codes
    yield "its codes have x before y", right[..., [1, 0, 3, 2]].numpy()
    scales = torch.tensor([10.0, 10.0, 5.0, 5.0])
    yield "its codes are multiplied by 10 and 5, as Faster R-CNN's are", (right * scales).numpy()
    corners = [
        torch.where((codes != 0).any(-1, keepdim=True), _corner_code(codes, ours.given.anchors), 0.0) for codes in right
    ]
    yield "its position codes are of the corners, not of the centres", torch.stack(corners).numpy()


def _corner_code(codes: Tensor, anchors: Tensor) -> Tensor:
    # (y + h/2 - ya - ha/2) / ha is the centre's code, so the corner's is that less (exp(th) - 1) / 2.
    zero = encode_boxes(anchors, anchors)
    shift = (torch.exp(codes[:, 2:]) - 1) / 2
    return zero + torch.cat([codes[:, :2] - shift, codes[:, 2:]], 1)


def _positives(ours: Ours) -> Known:
    right = ours.given.labels.positives.double()
    yield "it counts boxes, not anchors that have one", np.array([float(len(boxes)) for boxes in ours.given.boxes])
    yield "it counts the positives of the batch for each image", np.full(len(right), float(right.sum()))


def _with(ours: Ours, **changed: float) -> OurLoss:
    return OurLoss(ours.config, dataclasses.replace(ours.settings, **changed))  # type: ignore[arg-type]


def _class_loss(ours: Ours) -> Known:
    yield from _focal(ours, ours.given.labels)


def _focal(ours: Ours, labels: Labels) -> Known:
    right = ours.settings
    tried: dict[str, Sequence[float]] = {
        "gamma": (1.0, 1.5, 2.0),
        "alpha": (0.25, 0.5, 0.75),
        "label_smoothing": (0.0, 0.01, 0.1),
    }
    for name, values in tried.items():
        for value in values:
            if value != getattr(right, name):
                yield (
                    f"its {name.replace('_', ' ')} is {value}, not {getattr(right, name)}",
                    class_sum(_with(ours, **{name: value}), ours.given, labels),
                )
    doubled = class_sum(_with(ours, alpha=0.5), ours.given, labels) * 2
    yield "it has no alpha: positives and negatives weigh the same", doubled


def _ignored(ours: Ours) -> Known:
    yield "ignored anchors count as background", class_sum(_with(ours), ours.given, ours.given.labels)
    yield from _focal(ours, ignoring_some(ours.given.labels))


def _box_loss(ours: Ours) -> Known:
    right, given = ours.settings, ours.given
    plain = box_sum(_with(ours), given)
    for value in (0.1, 0.5, 1.0, 1 / 9):
        if value != right.delta:
            changed = box_sum(_with(ours, delta=value), given)
            yield f"its Huber delta is {value:.3g}, not {right.delta:.3g}", changed
            yield f"it is a smooth L1 loss with beta {value:.3g}: the Huber loss divided by its delta", changed / value
    yield "it is divided by its delta: a smooth L1 loss", plain / right.delta
    yield "it is not divided by the four numbers of a code", plain * 4
    yield "it is divided by another two", plain / 2
    tiny = given.labels._replace(codes=torch.where(given.labels.codes == 0, 1e-30, given.labels.codes))
    yield "anchors without a box count, with codes of zero", box_sum(_with(ours), given._replace(labels=tiny))


def _normaliser(ours: Ours) -> Known:
    labels, given = ours.given.labels, ours.given
    count, images = float(labels.positives.sum()), len(labels.positives)
    yield "it divides by the number of positives, without one more", np.full(2, count)
    yield "it divides by the mean number of positives of an image, plus one", np.full(2, count / images + 1)
    yield "it divides by the number of images", np.full(2, float(images))
    for more, what in ((1.0, "plus one"), (0.0, "without one more")):
        values = []
        for sums in (class_sum(_with(ours), given, each_image=True), box_sum(_with(ours), given, each_image=True)):
            mean = (sums / (labels.positives.double().numpy() + more)).mean()
            values.append(sums.sum() / mean)
        yield f"it divides each image by its own positives, {what}, and takes the mean of images", np.array(values)


def _box_weight(ours: Ours) -> Known:
    for weight in (1.0, 10.0, 50.0):
        if weight != ours.settings.box_weight:
            yield f"the box loss weighs {weight:g}, not {ours.settings.box_weight:g}", np.array([weight])


def _decay(ours: Ours) -> Known:
    assert ours.weights is not None
    right = ours.decay * half_square_sum(each for each in ours.weights.parameters() if each.ndim > 1)
    yield (
        "it decays every tensor, biases and norms too",
        np.array([ours.decay * half_square_sum(ours.weights.parameters())]),
    )
    yield "it is the sum of squares, not half of it", np.array([2 * right])
    yield "it decays nothing", np.zeros(1)


MISTAKES: Mapping[str, Callable[[Ours], Known]] = {
    "anchors": _anchors,
    "classes of anchors": _matching,
    "box targets": _codes,
    "positives": _positives,
    "class loss": _class_loss,
    "ignored anchors": _ignored,
    "box loss": _box_loss,
    "normaliser": _normaliser,
    "box weight": _box_weight,
    "weight decay": _decay,
}
