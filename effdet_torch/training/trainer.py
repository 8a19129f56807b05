"""Training steps that equal the official ones: the state of a training, and what one step does to it.

Source: google/automl `det_model_fn.py: _model_fn`, `tf2/train_lib.py: EfficientDetNetTrain`.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...errors import EffconvError
from ..model import EfficientDet
from ..ops import BatchNorm
from ..postprocessing.anchors import feature_sizes, official_anchors
from ..processes import gathered, rank, summed
from .loss import Losses, LossSettings, detection_loss
from .moving_average import MovingAverage
from .not_finite import first_not_finite
from .optimizer import Optimizer, freeze
from .stochastic_depth import drop_blocks, drop_repeats
from .synchronised_norm import synchronise_norms
from .targets import Targets

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TrainingError(EffconvError):
    """A training that cannot go on."""


class NotFiniteError(TrainingError):
    """A step whose loss or gradient is not finite. `images` are places in the whole batch: those whose values are not
    finite in the first layer that has such, or none.
    """

    def __init__(self, message: str, images: tuple[int, ...]):
        super().__init__(message)
        self.images = images


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The defaults are those of the official configuration (`hparams_config.py`)."""

    momentum: float = 0.9
    weight_decay: float = 4e-5
    clip_norm: float = 10.0
    average_decay: float = 0.9998
    survival: float | None = None  # of the last backbone block; `stochastic_depth.official_survival`
    head_survival: float | None = None  # of the heads' repeats, where they are residual
    frozen_norms: bool = False  # batch norms keep their statistics and normalise by them
    local_norms: bool = False  # with several processes: each normalises by its own images
    frozen_backbone: bool = False  # the backbone, with its norms, stays as it is
    parts: int = 1  # of each process's images, one after the other: as much less memory, the same gradients
    precision: str = "float32"  # of the network's arithmetic; weights, losses and statistics are float32
    seed: int = 0  # of stochastic depth
    loss: LossSettings = field(default_factory=LossSettings)

    def __post_init__(self) -> None:
        limits = {
            "momentum": 0 <= self.momentum < 1,
            "weight decay": 0 <= self.weight_decay < 1,
            "clip norm": 0 < self.clip_norm < math.inf,
            "average decay": 0 <= self.average_decay < 1,
            "survival": self.survival is None or 0 < self.survival <= 1,
            "head survival": self.head_survival is None or 0 < self.head_survival <= 1,
            "parts": self.parts >= 1,
            "precision": self.precision in PRECISIONS,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(f"{name} {getattr(self, name.replace(' ', '_'))} is out of range")


class StepRecord(NamedTuple):
    """What one step found, before it changed the weights. Losses are those of the whole batch."""

    total: float  # weight decay included
    classes: float
    boxes: float
    iou: float
    gradient_norm: float  # before clipping
    rate: float


class Training:
    """A model being trained: `step` after step, alone or as one of so many connected `processes`."""

    def __init__(
        self,
        model: EfficientDet,
        schedule: Callable[[int], float],  # learning rate by step; see `schedule.Schedule`
        settings: TrainingSettings = TrainingSettings(),
        processes: int = 1,
    ):
        # Channels last, with which convolutions are quicker: 1.4 times on a CPU.
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.schedule, self.settings, self.processes = schedule, settings, processes
        self.steps = 0
        self.device = next(model.parameters()).device
        self.anchors = official_anchors(model.config).to(self.device)
        self.average = MovingAverage(model, settings.average_decay)
        self._draws = torch.Generator()
        if settings.survival is not None:
            drop_blocks(model, settings.survival, self._draws)
        if settings.head_survival is not None:
            drop_repeats(model, settings.head_survival, self._draws)
        if settings.frozen_backbone:
            freeze(model.backbone.parameters())
        if settings.frozen_norms:
            freeze(each for norm in _norms(model) for each in norm.parameters())
        self.optimizer = Optimizer(
            model, momentum=settings.momentum, weight_decay=settings.weight_decay, clip_norm=settings.clip_norm
        )
        self._statistics = [each.clone() for each in model.buffers()]
        self.network: nn.Module = model
        if processes > 1:
            if not settings.local_norms:
                synchronise_norms(model)
            # The first process's statistics are everyone's, at every step.
            self.network = DistributedDataParallel(model)

    def step(self, images: Tensor, targets: Targets) -> StepRecord:
        """One optimisation step on images (B, 3, H, W) and targets (B, M), this process's share of the batch.

        Parts of it are accumulated; only batch statistics are of each part by itself. Raises NotFiniteError when a loss
        or the gradient is not finite, and then everything is as it was before the step; and TrainingError when a part
        is too small for batch norm.
        """
        self.require_statistics(len(images))
        self._set_modes()
        rate = self.schedule(self.steps)
        sums = torch.zeros(len(Losses._fields), device=self.device)
        parts = self._parts(images, targets)
        self._seed_draws()
        torch._foreach_copy_(self._statistics, list(self.model.buffers()))
        for number, part in enumerate(parts):
            with self._without_exchange() if number < len(parts) - 1 else contextlib.nullcontext():
                losses = self._losses(*part)
                # Gradients are averaged over processes, and these losses are parts of a sum.
                (losses.total * self.processes).backward()  # type: ignore[no-untyped-call]
            sums = sums + torch.stack(list(losses)).detach()
        if self.processes > 1:
            sums = summed(sums)
        total, classes, boxes, iou = sums.tolist()
        if not sums.isfinite().all():
            raise self._not_finite({"class loss": classes, "box loss": boxes, "IoU loss": iou}, images)
        total += float(self.optimizer.decay_loss())
        norms = self.optimizer.step(rate)
        if not norms.found.isfinite():
            raise self._not_finite({"gradient": float(norms.found)}, images)
        self.average.update(self.model)
        self.steps += 1
        return StepRecord(total, classes, boxes, iou, float(norms.found), rate)

    def require_statistics(self, images: int) -> None:
        """Raises TrainingError when the smallest part of so many images, this process's share of a batch, has a single
        value per channel somewhere: a batch norm cannot normalise by that.
        """
        height, width = feature_sizes(self.model.config)[-1]
        per_part = -(-images // self.settings.parts)
        smallest = images % per_part or per_part
        processes = 1 if self.settings.local_norms else self.processes
        if smallest * height * width * processes > 1 or self.settings.frozen_norms:
            return
        part = "a batch" if per_part == images else "a part of a batch"
        raise TrainingError(
            f"{part} has one image, and {self.model.config.name} has a coarsest level of 1 x 1: batch norm has no "
            "statistics of one value; use a larger batch, other parts, or frozen norms",
            parameters={"batch": None, "parts": None, "frozen_norms": True},
        )

    def total_loss(self, images: Tensor, targets: Targets) -> Tensor:
        """The loss () of a batch as a step computes it, weight decay left out, with what its gradients need."""
        self._set_modes()
        return torch.stack([self._losses(*part).total for part in self._parts(images, targets)]).sum()

    def averaged(self) -> EfficientDet:
        """A model with the moving averages, in eval mode: what is evaluated and released."""
        model = EfficientDet(self.model.config)
        model.load_state_dict(self.average.values, strict=True)
        return model.eval().to(self.device)

    def state(self) -> dict[str, Any]:
        """Everything a training needs to go on: tensors and plain values."""
        return {
            "steps": self.steps,
            "model": {name: value.detach().clone() for name, value in self.model.state_dict().items()},
            "average": {name: value.clone() for name, value in self.average.values.items()},
            "average_updates": self.average.updates,
            "momentum": {name: value.clone() for name, value in self.optimizer.momenta().items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. Raises TrainingError when it is of another training."""
        try:
            self.model.load_state_dict(state["model"], strict=True)
            self.average.restore(state["average"], state["average_updates"])
            self.optimizer.restore(state["momentum"])
            self.steps = state["steps"]
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise TrainingError(f"not the state of this training ({str(error).splitlines()[0]})") from error

    def _not_finite(self, values: dict[str, float], images: Tensor) -> NotFiniteError:
        """What to raise, by running the step's share again; everything is put back to before the step."""
        gradients = self.optimizer.not_finite()
        self.optimizer.forget()
        self._rewind()
        places, start = [], 0
        for part in images.chunk(self.settings.parts):
            with self._autocast():
                found = first_not_finite(self.model, part.to(self.device, memory_format=torch.channels_last))
            if found:
                shift = self._rank() * len(images) + start
                places.append(found._replace(images=tuple(shift + place for place in found.images)))
            start += len(part)
        self._rewind()
        if self.processes > 1:
            places = [place for each in gathered(places, self.processes) for place in each]
        what = " and ".join(f"the {name} is {value}" for name, value in values.items() if not math.isfinite(value))
        where = f"every layer's values are finite{f', not so the gradient of {gradients[0]}' if gradients else ''}"
        affected: tuple[int, ...] = ()
        if places:
            first = min(places)
            where = f"the first layer with values that are not finite is {first.layer}"
            affected = tuple(image for place in places if place.layer == first.layer for image in place.images)
        return NotFiniteError(f"step {self.steps}: {what or 'the total loss overflows'}; {where}", affected)

    def _rewind(self) -> None:
        """Batch statistics and draws as they were before the step."""
        torch._foreach_copy_(list(self.model.buffers()), self._statistics)
        self._seed_draws()

    def _seed_draws(self) -> None:
        # One seed per step: a resumed training draws what an uninterrupted one would.
        self._draws.manual_seed(_seed(self.settings.seed, self.steps, self._rank()))

    def _parts(self, images: Tensor, targets: Targets) -> list[tuple[Tensor, Targets]]:
        """The share in parts; each has the positives of the whole batch, by which losses are divided."""
        positives = targets.positives.to(self.device)
        if self.processes > 1:
            positives = summed(positives)
        count = self.settings.parts
        columns = (images.chunk(count), targets.classes.chunk(count), targets.codes.chunk(count))
        return [(part, Targets(classes, codes, positives)) for part, classes, codes in zip(*columns, strict=True)]

    def _losses(self, images: Tensor, targets: Targets) -> Losses:
        with self._autocast():
            logits, codes = self.network(images.to(self.device, memory_format=torch.channels_last))
        targets = Targets(*(each.to(self.device) for each in targets))
        codes = [each.to(torch.promote_types(each.dtype, torch.float32)) for each in codes]
        return detection_loss(logits, codes, targets, self.anchors, self.settings.loss)

    def _autocast(self) -> torch.autocast:
        precision = PRECISIONS[self.settings.precision]
        return torch.autocast(self.device.type, precision, enabled=precision != torch.float32)

    def _without_exchange(self) -> contextlib.AbstractContextManager[None]:
        """Gradients are exchanged with the last part only."""
        if isinstance(self.network, DistributedDataParallel):
            return self.network.no_sync()
        return contextlib.nullcontext()

    def _set_modes(self) -> None:
        self.model.train()
        if self.settings.frozen_backbone:
            self.model.backbone.eval()
        if self.settings.frozen_norms:
            for norm in _norms(self.model):
                norm.eval()

    def _rank(self) -> int:
        return rank() if self.processes > 1 else 0


def _norms(model: nn.Module) -> list[BatchNorm]:
    return [module for module in model.modules() if isinstance(module, BatchNorm)]


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
