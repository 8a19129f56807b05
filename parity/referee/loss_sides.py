"""Whose anchors, targets and losses are compared: ours, the official ones in TensorFlow, and effdet's own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from ...convert.rules import rules
from ...effdet_torch.config import Config
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.anchors import feature_sizes, official_anchors
from ...effdet_torch.training.loss import LossSettings, detection_loss
from ...effdet_torch.training.optimizer import decayed_parameters
from ...effdet_torch.training.targets import Targets, label_anchors
from ...errors import EffconvError
from ..reference.network import import_tensorflow
from ..reference.pipeline import official_anchor_boxes
from ..reference.targets import official_targets
from ..reference.training import OfficialSettings, losses, weight_decay
from .module_job import filled_port
from .ports import import_port

OFFICIAL_SETTINGS = LossSettings()


class Labels(NamedTuple):
    """What M anchors of B images are to predict, in the anchors' order."""

    classes: Tensor  # (B, M) int64: from 0, -1 background, -2 ignored
    codes: Tensor  # (B, M, 4) [ty, tx, th, tw], zeros where there is no box
    positives: Tensor  # (B,) anchors of each image that have a box


class SideLosses(NamedTuple):
    """Scalars, as the side itself normalises and weighs them."""

    total: float
    classes: float
    boxes: float


class LossSide(Protocol):
    """One implementation. Boxes and anchors are [ymin, xmin, ymax, xmax] in input pixels, classes count from 0."""

    @property
    def label(self) -> str:
        """Whose it is, with its version."""

    def anchors(self) -> Tensor:
        """(M, 4) float32: level by level, row by row, the anchors of a position together."""

    def targets(self, boxes: Sequence[Tensor], classes: Sequence[Tensor], anchors: Tensor) -> Labels:
        """Label these anchors by each image's boxes (N, 4) float32 and classes (N,) int64."""

    def losses(self, class_logits: Sequence[Tensor], box_codes: Sequence[Tensor], labels: Labels) -> SideLosses:
        """The losses of outputs by level, (B, A*C, h, w) and (B, A*4, h, w) float64, computed in float64."""

    def decay(self, weights: EfficientDet, factor: float) -> float | None:
        """What weight decay by `factor` adds to the loss of a network with these weights; None where it is unknown."""


class OurLoss:
    """effconv's own."""

    label = "effconv"

    def __init__(self, config: Config, settings: LossSettings = OFFICIAL_SETTINGS):
        self.config, self.settings = config, settings

    def anchors(self) -> Tensor:
        """See LossSide."""
        return official_anchors(self.config)

    def targets(self, boxes: Sequence[Tensor], classes: Sequence[Tensor], anchors: Tensor) -> Labels:
        """See LossSide."""
        return stacked([label_anchors(*each, anchors) for each in zip(boxes, classes, strict=True)])

    def losses(self, class_logits: Sequence[Tensor], box_codes: Sequence[Tensor], labels: Labels) -> SideLosses:
        """See LossSide."""
        targets = Targets(labels.classes, labels.codes, labels.positives.sum())
        found = detection_loss(class_logits, box_codes, targets, self.anchors(), self.settings)
        return SideLosses(float(found.total), float(found.classes), float(found.boxes))

    def decay(self, weights: EfficientDet, factor: float) -> float | None:
        """See LossSide. In float64; `Optimizer.decay_loss` is the same in the weights' precision."""
        return factor * half_square_sum(each for _, each in decayed_parameters(weights))


class OfficialLoss:
    """The official code's, in TensorFlow. Raises EffconvError without it."""

    def __init__(self, config: Config, settings: LossSettings = OFFICIAL_SETTINGS):
        self.tensorflow = import_tensorflow()
        self.label = f"TensorFlow {self.tensorflow.__version__}"
        self.config = config
        self.settings = OfficialSettings(
            learning_rates=(),
            alpha=settings.alpha,
            gamma=settings.gamma,
            label_smoothing=settings.label_smoothing,
            delta=settings.delta,
            box_weight=settings.box_weight,
        )

    def anchors(self) -> Tensor:
        """See LossSide."""
        return torch.from_numpy(official_anchor_boxes(self.config))

    def targets(self, boxes: Sequence[Tensor], classes: Sequence[Tensor], anchors: Tensor) -> Labels:
        """See LossSide."""
        found = [
            official_targets(one.numpy(), kinds.numpy(), anchors.numpy())
            for one, kinds in zip(boxes, classes, strict=True)
        ]
        return stacked([Targets(*(torch.from_numpy(np.asarray(part)) for part in each)) for each in found])

    def losses(self, class_logits: Sequence[Tensor], box_codes: Sequence[Tensor], labels: Labels) -> SideLosses:
        """See LossSide."""
        constant = self.tensorflow.constant
        outputs = {
            f"{kind}_outputs/{level}": constant(each.permute(0, 2, 3, 1).numpy())
            for kind, maps in (("class", class_logits), ("box", box_codes))
            for level, each in zip(self.config.levels, maps, strict=True)
        }
        targets = (constant(each.numpy()) for each in (labels.classes, labels.codes, labels.positives.sum()))
        classes, boxes = losses(self.tensorflow, self.config, outputs, tuple(targets), self.settings)
        return SideLosses(float(classes + self.settings.box_weight * boxes), float(classes), float(boxes))

    def decay(self, weights: EfficientDet, factor: float) -> float | None:
        """See LossSide."""
        state = {key: value.detach().cpu().double().numpy() for key, value in weights.state_dict().items()}
        # By official names; how axes lie does not matter to a sum of squares.
        variables = {rule.tf: self.tensorflow.constant(state[rule.torch]) for rule in rules(weights.config)}
        return float(weight_decay(self.tensorflow, variables, factor))


class EffdetLoss:
    """effdet's own anchors, labeller and loss, as its `DetBenchTrain` puts them together with its own settings.

    Weight decay is no part of its loss: timm's optimizers, which its training script uses, apply it to the tensors
    that `timm.optim.param_groups_weight_decay` chooses. Raises EffconvError where effdet is not installed.
    """

    def __init__(self, config: Config):
        package, anchors = import_port("effdet", "effdet"), import_port("effdet.anchors", "effdet")
        self.config, self.optim = config, import_port("timm.optim", "effdet")
        its = package.get_efficientdet_config(config.name.replace("efficientdet-", "tf_efficientdet_"))
        its.image_size, its.num_classes = config.image_size, config.num_classes
        self.label = f"effdet {import_port('effdet.version', 'effdet').__version__}"
        self.grid = anchors.Anchors.from_config(its)
        self.labeller = anchors.AnchorLabeler(anchors.Anchors.from_config(its), config.num_classes, match_threshold=0.5)
        self.loss = import_port("effdet.loss", "effdet").DetectionLoss(its)

    def anchors(self) -> Tensor:
        """See LossSide."""
        boxes: Tensor = self.grid.boxes
        return boxes

    def targets(self, boxes: Sequence[Tensor], classes: Sequence[Tensor], anchors: Tensor) -> Labels:
        """See LossSide. effdet counts classes from 1 here, and as floats."""
        self.labeller.anchors.boxes = anchors
        kinds, codes, positives = self.labeller.batch_label_anchors(list(boxes), [each + 1.0 for each in classes])
        batch = len(boxes)
        return Labels(
            torch.cat([each.reshape(batch, -1) for each in kinds], 1),
            torch.cat([each.reshape(batch, -1, 4) for each in codes], 1),
            positives,
        )

    def losses(self, class_logits: Sequence[Tensor], box_codes: Sequence[Tensor], labels: Labels) -> SideLosses:
        """See LossSide."""
        kinds, codes = (by_level(each, self.config) for each in (labels.classes, labels.codes))
        with float_is_double():
            found = self.loss(list(class_logits), list(box_codes), kinds, codes, labels.positives)
        return SideLosses(*map(float, found))

    def decay(self, weights: EfficientDet, factor: float) -> float | None:
        """See LossSide."""
        network = filled_port("effdet", weights, weights.config.image_size)
        groups = self.optim.param_groups_weight_decay(network, weight_decay=factor)
        return sum(float(group["weight_decay"]) * half_square_sum(group["params"]) for group in groups)


LOSS_SIDES: Mapping[str, Callable[[Config], LossSide]] = {"effdet": EffdetLoss}


def side_of(theirs: LossSide | str, config: Config) -> LossSide:
    """A port's loss by name, or the one that is given. Raises EffconvError for a name that is none."""
    if not isinstance(theirs, str):
        return theirs
    if theirs not in LOSS_SIDES:
        raise EffconvError(f"{theirs}: its loss cannot be built here, only that of {', '.join(LOSS_SIDES)}")
    return LOSS_SIDES[theirs](config)


def stacked(targets: Sequence[Targets]) -> Labels:
    """Targets of several images as labels of a batch."""
    return Labels(*(torch.stack(part) for part in zip(*targets, strict=True)))


def by_level(values: Tensor, config: Config) -> list[Tensor]:
    """(B, M) or (B, M, 4) of all anchors as (B, h, w, A) or (B, h, w, A*4) of each level."""
    sizes = feature_sizes(config)
    counts = [height * width * config.num_anchors for height, width in sizes]
    parts = torch.split(values, counts, 1)
    return [part.reshape(len(part), *size, -1) for part, size in zip(parts, sizes, strict=True)]


def half_square_sum(parameters: Any) -> float:
    """Half the sum of squares, in float64."""
    return 0.5 * sum(float(each.detach().double().square().sum()) for each in parameters)


@contextmanager
def float_is_double() -> Iterator[None]:
    """What asks for float32 by `.float()` gets float64: so rounding is not taken for another function."""
    with patch.object(torch.Tensor, "float", torch.Tensor.double):
        yield
