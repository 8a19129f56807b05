"""The official learning-rate schedules, computed in float32 in the official order of operations.

Source: google/automl `det_model_fn.py: update_learning_rate_schedule_parameters, stepwise_lr_schedule,
cosine_lr_schedule, polynomial_lr_schedule`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["cosine", "stepwise", "polynomial", "constant"]
KINDS: tuple[Kind, ...] = ("cosine", "stepwise", "polynomial", "constant")
DEFAULT_BATCH = 64  # the batch that the official learning rates are meant for
POLYNOMIAL_POWER = 0.9
DROPS = (200 / 300, 250 / 300)  # of all epochs: where "stepwise" falls to a tenth and a hundredth


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate by step: linear from `warmup_rate` to `rate`, then as `kind` says.

    "cosine" counts from step 0, not from the end of the warm-up, and its period is `total_steps - warmup_steps`: it
    reaches 0 early and rises a little at the end, as officially.
    """

    kind: Kind = "cosine"
    rate: float
    warmup_rate: float
    warmup_steps: int
    total_steps: int
    drop_steps: tuple[int, int] = (0, 0)  # of "stepwise"

    def __call__(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        rate, now = np.float32(self.rate), np.float32(step)
        if step < self.warmup_steps:
            climb = np.float32(self.rate - self.warmup_rate)
            return float(np.float32(self.warmup_rate) + now / np.float32(self.warmup_steps) * climb)
        if self.kind == "constant":
            return float(rate)
        if self.kind == "stepwise":
            drops = sum(step >= drop for drop in self.drop_steps)
            return float(np.float32(self.rate * (1.0, 0.1, 0.01)[drops]))
        if self.kind == "polynomial":
            left = np.float32(1) - now / np.float32(self.total_steps)
            return float(rate * np.float32(math.pow(float(left), float(np.float32(POLYNOMIAL_POWER)))))
        angle = np.float32(math.pi) * now / np.float32(max(1, self.total_steps - self.warmup_steps))
        return float(np.float32(0.5 * self.rate) * (np.float32(1) + np.float32(math.cos(float(angle)))))


def official_schedule(
    *,
    batch: int,
    steps_per_epoch: float,
    epochs: float,
    rate: float = 0.08,
    warmup_rate: float = 0.008,
    warmup_epochs: float = 1.0,
    kind: Kind = "cosine",
) -> Schedule:
    """The schedule for a batch size: both rates grow with it, as those of a batch of 64 are given.

    The official configuration trains for 300 epochs; "stepwise" drops at two thirds and five sixths of all.
    """
    scale = batch / DEFAULT_BATCH
    first, second = (int(part * epochs * steps_per_epoch) for part in DROPS)
    return Schedule(
        kind=kind,
        rate=rate * scale,
        warmup_rate=warmup_rate * scale,
        warmup_steps=int(warmup_epochs * steps_per_epoch),
        total_steps=int(epochs * steps_per_epoch),
        drop_steps=(first, second),
    )
