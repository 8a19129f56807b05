"""A loss taken apart from outside: the values of its stages, each from what our own earlier stages give.

Nothing of a side is called but what `LossSide` says. Of its class loss L the sum S and what it divides by are told
apart by giving it two numbers of positives p: where L = S / (p + c), 1/L is a straight line whose slope is 1/S.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...effdet_torch.model import EfficientDet
from ...effdet_torch.training.targets import IGNORED
from ...errors import EffconvError
from .loss_sides import Labels, LossSide

Values = NDArray[np.float64]
GIVEN_POSITIVES = (16.0, 1024.0)  # large enough that `max(positives, 1)` is the number itself
IGNORED_STEP = 17  # every so many of the background anchors are ignored, to see whether a side leaves them out


class Given(NamedTuple):
    """What every side is given: outputs in float64, boxes in float32, and our own anchors and labels."""

    class_logits: Sequence[Tensor]
    box_codes: Sequence[Tensor]
    boxes: Sequence[Tensor]
    classes: Sequence[Tensor]
    anchors: Tensor
    labels: Labels


def stages(side: LossSide, given: Given, weights: EfficientDet | None, decay: float) -> dict[str, Values]:
    """{stage: values} of one side; "weight decay" is left out where there are no weights or the side says nothing."""
    found: dict[str, Values] = {"anchors": side.anchors().double().numpy()}
    labels = side.targets(given.boxes, given.classes, given.anchors)
    found["classes of anchors"] = labels.classes.double().numpy()
    found["box targets"] = labels.codes.double().numpy()
    found["positives"] = labels.positives.double().numpy()
    found["class loss"] = class_sum(side, given)
    found["ignored anchors"] = class_sum(side, given, ignoring_some(given.labels))
    found["box loss"] = box_sum(side, given)
    whole = side.losses(given.class_logits, given.box_codes, given.labels)
    found["normaliser"] = np.array([found["class loss"][0] / whole.classes, found["box loss"][0] / whole.boxes])
    found["box weight"] = np.array([(whole.total - whole.classes) / whole.boxes])
    if weights is not None and (value := side.decay(weights, decay)) is not None:
        found["weight decay"] = np.array([value])
    found["total"] = np.array([whole.total])
    return found


def own_total(side: LossSide, given: Given) -> float:
    """The loss of the outputs as the side would train with it: by its own anchors and targets."""
    labels = side.targets(given.boxes, given.classes, side.anchors())
    return side.losses(given.class_logits, given.box_codes, labels._replace(codes=labels.codes.double())).total


def ignoring_some(labels: Labels) -> Labels:
    """Labels of which some background anchors are ignored."""
    classes = labels.classes.clone()
    chosen = classes[:, ::IGNORED_STEP]
    classes[:, ::IGNORED_STEP] = torch.where(chosen < 0, IGNORED, chosen)
    return labels._replace(classes=classes)


def class_sum(side: LossSide, given: Given, labels: Labels | None = None, each_image: bool = False) -> Values:
    """The class loss before anything divides it: (1,) of the batch, or (B,) of each image."""
    return _sums(side, given, labels or given.labels, "classes", each_image)


def box_sum(side: LossSide, given: Given, each_image: bool = False) -> Values:
    """A quarter of the box loss before the positives divide it: (1,) of the batch, or (B,) of each image."""
    return _sums(side, given, given.labels, "boxes", each_image)


def _sums(side: LossSide, given: Given, labels: Labels, which: str, each_image: bool) -> Values:
    # Image by image, so that a mean over images shows in the normaliser and not here.
    sums = []
    for image in range(len(labels.classes)):
        one = slice(image, image + 1)
        logits, codes = ([level[one] for level in maps] for maps in (given.class_logits, given.box_codes))
        values = []
        for count in GIVEN_POSITIVES:
            of_image = Labels(labels.classes[one], labels.codes[one], labels.positives.new_full((1,), count))
            values.append(float(getattr(side.losses(logits, codes, of_image), which)))
        sums.append(_sum_of(side, which, *values))
    found = np.array(sums)
    return found if each_image else found.sum(keepdims=True)


def _sum_of(side: LossSide, which: str, few: float, many: float) -> float:
    if few == many == 0:
        return 0.0  # an image without boxes
    if few == many:
        raise EffconvError(
            f"{side.label}: its loss of {which} does not depend on the number of positives it is given; "
            "let `losses` divide by `labels.positives`"
        )
    return (GIVEN_POSITIVES[1] - GIVEN_POSITIVES[0]) / (1 / many - 1 / few)


Summary = Callable[[Values], float]
# A number per stage that a reader can compare by eye.
SUMMARIES: Mapping[str, tuple[str, Summary]] = {
    "anchors": ("mean of height and width, pixels", lambda a: float((a[:, 2:] - a[:, :2]).mean())),
    "classes of anchors": ("sum of classes of anchors with a box", lambda a: float(a[a >= 0].sum())),
    "box targets": ("sum of sizes", lambda a: float(np.abs(a).sum())),
    "positives": ("anchors with a box, of the batch", lambda a: float(a.sum())),
    "class loss": ("sum of the focal loss", lambda a: float(a[0])),
    "ignored anchors": (f"the same, each {IGNORED_STEP}th background anchor ignored", lambda a: float(a[0])),
    "box loss": ("sum of the Huber loss, over 4", lambda a: float(a[0])),
    "normaliser": ("positives + 1", lambda a: float(a[0])),
    "box weight": ("factor of the box loss", lambda a: float(a[0])),
    "weight decay": ("half the sum of squares of kernels, times the factor", lambda a: float(a[0])),
    "total": ("class loss and weighted box loss", lambda a: float(a[0])),
}
