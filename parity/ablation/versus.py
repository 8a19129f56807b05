"""Two files of detections on one dataset: how their metrics differ, with intervals, and where one loses most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EffconvError
from ..datasets.dataset import Dataset, Image
from ..datasets.examination import examine
from ..datasets.layouts import CocoFile, read_dataset
from ..evaluation.coco import METRICS, UNDEFINED, Rows, evaluate, read_detections
from ..plain import Plain
from ..provenance import provenance
from .bootstrap import RESAMPLES, metrics_of
from .matches import Matches, match_detections
from .significance import Interval, paired

SEED = 0
AT_A_TIME = 64  # images whose own AP is computed at once


@dataclass(frozen=True, kw_only=True)
class VersusMetric(Plain):
    """A metric of both, the difference of the first from the second, and what it is worth (`significance.Interval`)."""

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    chance: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class VersusPart(Plain):
    """AP of both on a part: a category, or one image, whose AP is over the categories that it has."""

    name: str
    first: float
    second: float
    difference: float


@dataclass(frozen=True, kw_only=True)
class VersusStep(Plain):
    """A step from the second file to the first. Its metrics are of after it (`first`) and of before it (`second`)."""

    name: str
    kind: str  # of `versus_waterfall.KINDS`
    summary: str
    metrics: tuple[VersusMetric, ...]


@dataclass(frozen=True, kw_only=True)
class VersusRecord(Plain):
    """Two files of detections. Parts are in order: where the first loses most comes first."""

    what: str
    first: str
    second: str
    annotations: str
    sha256: str  # of the annotations
    images: int
    resamples: int
    metrics: tuple[VersusMetric, ...]
    categories: tuple[VersusPart, ...]
    by_image: tuple[VersusPart, ...]
    waterfall: tuple[VersusStep, ...] = ()  # where it was asked for; it always has a step then
    provenance: Any


@dataclass(frozen=True)
class FilePair:
    """Two files of detections as they were read, and the images that both are of, in the order of ids."""

    dataset: Dataset
    images: tuple[Image, ...]
    names: tuple[str, str]
    rows: tuple[Rows, Rows]


def read_pair(
    coco: Path | CocoFile,
    first: Path,
    second: Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    strict: bool = False,
) -> FilePair:
    """Read two files of COCO results. Raises EffconvError for bad input, and for fewer than two images."""
    dataset = read_dataset(coco, split)
    images = sorted(dataset.images[:limit], key=lambda image: image.id)
    if len(images) < 2:
        raise EffconvError("an interval needs at least two images; give a larger limit", parameters={"limit": None})
    examination = examine(dataset, images)
    if strict:
        examination.require_no_fault()
    examination.warn()
    return FilePair(
        dataset, tuple(images), (first.name, second.name), (read_detections(first), read_detections(second))
    )


def compare_detections(pair: FilePair, command: str) -> VersusRecord:
    """How the first file differs from the second, as a whole, by category and by image.

    Raises EffconvError for detections on other images.
    """
    dataset, images = pair.dataset, pair.images
    categories = _by_category(dataset, pair.rows, images)
    ours, theirs = (match_detections(dataset, each, images) for each in pair.rows)
    values = [metrics_of(each)[0] for each in (ours, theirs)]
    return VersusRecord(
        what="two files of detections on one dataset",
        first=pair.names[0],
        second=pair.names[1],
        annotations=dataset.path.name,
        sha256=dataset.sha256,
        images=len(images),
        resamples=RESAMPLES,
        metrics=versus_metrics(values[0], values[1], paired(ours, theirs, SEED)),
        categories=_worst_first(categories),
        by_image=_worst_first(_by_image(images, ours, theirs)),
        provenance={"command": command, **provenance()},
    )


def versus_metrics(
    first: NDArray[np.float64], second: NDArray[np.float64], found: Mapping[str, Interval]
) -> tuple[VersusMetric, ...]:
    """The twelve metrics of two evaluations (12,) with their intervals."""
    return tuple(
        VersusMetric(metric=name, first=float(first[at]), second=float(second[at]), **found[name]._asdict())
        for at, name in enumerate(METRICS)
    )


def _by_category(dataset: Dataset, rows: Sequence[Rows], images: Sequence[Image]) -> list[VersusPart]:
    first, second = (evaluate(dataset, each, images).per_category for each in rows)
    return [_part(name, first[number], second[number]) for number, name in dataset.categories.items()]


def _by_image(images: Sequence[Image], ours: Matches, theirs: Matches) -> list[VersusPart]:
    first, second = (_alone(matches) for matches in (ours, theirs))
    return [_part(image.path.name, *pair) for image, *pair in zip(images, first, second, strict=True)]


def _alone(matches: Matches) -> NDArray[np.float64]:
    """(images,) AP of each image by itself."""
    parts = []
    for start in range(0, matches.images, AT_A_TIME):
        places = np.arange(start, min(start + AT_A_TIME, matches.images))
        times = np.zeros((len(places), matches.images), np.int32)
        times[np.arange(len(places)), places] = 1
        parts.append(metrics_of(matches, times)[:, 0])
    return np.concatenate(parts)


def _part(name: str, first: float, second: float) -> VersusPart:
    apart = 0.0 if UNDEFINED in (first, second) else first - second
    return VersusPart(name=name, first=float(first), second=float(second), difference=float(apart))


def _worst_first(parts: Sequence[VersusPart]) -> tuple[VersusPart, ...]:
    measured = [part for part in parts if UNDEFINED not in (part.first, part.second)]
    return tuple(sorted(measured, key=lambda part: (part.difference, part.name)))
