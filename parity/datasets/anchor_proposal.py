"""Anchors that fit a dataset better than a model's own: as many aspect ratios, and another scale, so weights still fit.

Aspects come from the boxes' by k-means of their logarithms: a box twice as wide and one twice as high are equally far
from a square. The scale is tried out, and what counts is what is wanted: the share of boxes that an anchor reaches.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from ...effdet_torch.training.targets import MATCHED_IOU
from ..plain import Plain
from .boxes import Boxes
from .coverage import best_overlaps, learnt

# The octaves of one level are a third of a doubling apart, and this is a quarter of that: a box whose size is halfway
# between two steps overlaps an anchor of the nearer one, of its aspect and centre, by 0.94.
STEP = 2 ** (1 / 12)
SCALES = tuple(STEP**exponent for exponent in range(37))  # 1 to 8; the official ones are 3, 4 and 5
LOOKED_AT = 20_000  # boxes at most, drawn at random, to choose by; all are measured
SEED = 0
DIGITS = 3  # of what is proposed
EXTREME = 1e-3, 1e3  # of an aspect ratio that a configuration may have


@dataclass(frozen=True, kw_only=True)
class Proposal(Plain):
    """Anchors in place of a model's own, and the boxes that no anchor reaches with each.

    `not_reached_in_other_half` are boxes of one half of the images that are not reached by anchors chosen on the other
    half, of both halves together: what such a choice is worth on pictures it was not made by. None where a half has no
    boxes.
    """

    aspect_ratios: tuple[float, ...]
    anchor_scale: float
    boxes: int
    not_reached_now: int
    not_reached: int
    mean_best_now: float
    mean_best: float
    not_reached_in_other_half: int | None

    @property
    def gains(self) -> bool:
        """Whether it reaches more boxes than the model's own, on pictures it was not chosen by too."""
        other = self.not_reached_in_other_half
        return self.not_reached < self.not_reached_now and (other is None or other < self.not_reached_now)

    def config(self, config: Config) -> Config:
        """The model's configuration with these anchors."""
        return dataclasses.replace(config, aspect_ratios=self.aspect_ratios, anchor_scale=self.anchor_scale)


def propose_anchors(boxes: Boxes, config: Config) -> Proposal | None:
    """The best of what was tried on all boxes that training learns from, the model's own included; None without any."""
    places, resized = learnt(boxes, config)
    if not len(places):
        return None
    chosen = choose_anchors(resized, config)
    now, then = best_overlaps(resized, config), best_overlaps(resized, chosen)
    halves = [boxes.images[places] % 2 == half for half in (0, 1)]
    missed = None
    if all(half.any() for half in halves):
        missed = sum(
            _not_reached(best_overlaps(resized[theirs], choose_anchors(resized[~theirs], config))) for theirs in halves
        )
    return Proposal(
        aspect_ratios=chosen.aspect_ratios,
        anchor_scale=chosen.anchor_scale,
        boxes=len(resized),
        not_reached_now=_not_reached(now),
        not_reached=_not_reached(then),
        mean_best_now=float(now.mean()),
        mean_best=float(then.mean()),
        not_reached_in_other_half=missed,
    )


def choose_anchors(resized: NDArray[np.float32], config: Config) -> Config:
    """The configuration with the aspects and the scale that leave the fewest of `resized` (N, 4) without an anchor; of
    those that leave as many, the one whose best overlaps are the largest.
    """
    some = resized
    if len(resized) > LOOKED_AT:
        some = resized[np.random.default_rng(SEED).choice(len(resized), LOOKED_AT, replace=False)]
    sides = some[:, 2:] - some[:, :2]
    fitted = aspect_clusters((sides[:, 1] / sides[:, 0]).astype(np.float64), len(config.aspect_ratios))
    candidates = [
        dataclasses.replace(config, aspect_ratios=aspects, anchor_scale=scale)
        for aspects in (config.aspect_ratios, fitted)
        for scale in (config.anchor_scale, *(round(scale, DIGITS) for scale in SCALES))
    ]

    def worth(candidate: Config) -> tuple[int, float]:
        best = best_overlaps(some, candidate)
        return -_not_reached(best), float(best.mean())

    return max(candidates, key=worth)  # of equals the first, which is the model's own


def aspect_clusters(aspects: NDArray[np.float64], count: int) -> tuple[float, ...]:
    """`count` aspect ratios, rising: means of the logarithms of `aspects` (N,), by Lloyd's k-means from quantiles."""
    values = np.log(np.clip(aspects, *EXTREME))
    means = np.quantile(values, (np.arange(count) + 0.5) / count)
    while True:
        nearest = np.abs(values[:, None] - means).argmin(1)
        moved = np.array(
            [values[nearest == one].mean() if (nearest == one).any() else means[one] for one in range(count)]
        )
        if np.allclose(moved, means, rtol=0, atol=1e-9):  # each step lowers the squared distances, so it ends
            return tuple(round(float(each), DIGITS) for each in np.exp(moved))
        means = moved


def _not_reached(best: NDArray[np.float64]) -> int:
    return int((best < MATCHED_IOU).sum())
