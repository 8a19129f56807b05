"""Published results: every number with what it was measured under, and which ones may be compared.

`results/reference/*.json`: a file per source, with the conditions that all its rows share; a row adds or replaces some.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from .coco import METRICS

# A published row and a run may be compared when they agree in all of these.
CONDITIONS = {
    "split": "the images",
    "images": "how many of them",
    "annotations": "the true boxes, by content",
    "weights": "moving averages or raw weights",
    "image_size": "input size in pixels",
    "image_decoder": "the image decoder",
    "resize": "how images are resized",
    "anchors": "the anchor set",
    "candidates": "how candidates are chosen from the outputs",
    "nms": "the kind of non-maximum suppression",
    "score_threshold": "detections below it are dropped",
    "max_detections": "detections per image",
    "precision": "of the network's arithmetic",
}
# What a difference in one condition is known to do to AP, with where that is from.
KNOWN_EFFECTS = {
    "nms": "soft-NMS is worth +0.003 to +0.004 AP over hard NMS (published generations of the same checkpoint)",
    "score_threshold": "a threshold of 0.4 turns D0's 0.343 AP into 0.300 (google/automl issue 858)",
    "precision": "int8 costs the Lite models 0.003 to 0.008 AP (google/automl README)",
    "split": "test-dev differs from val2017 by +0.003 to +0.007 AP (google/automl README)",
}
IMAGES = {"val2017": 5000}  # in a whole split
# As `Dataset.content` says it: the instances file in COCO's own annotations archive, whose sha256 is in coco_archives.
OFFICIAL_ANNOTATIONS = {"val2017": "36781 boxes of 80 categories on 5000 images (sha256 e8c7f7908f1d7278)"}
# A condition that a row does not state is taken to be as the official evaluation has it, never as the run has it:
# otherwise a run in bfloat16 would "reproduce" every row that says nothing about precision.
OFFICIAL_CONDITIONS: Mapping[str, Any] = {
    "weights": "ema",
    "image_decoder": "tensorflow",
    "resize": "tensorflow",
    "anchors": "official",
    "candidates": "topk",
    "nms": "soft",
    "score_threshold": 0.0,
    "max_detections": 100,
    "precision": "float32",
}
NOT_STATED = "not stated"  # of a condition that has no official value, such as the annotations of a hidden split
# Of |difference|, for every metric the row states: one step of the third decimal that published figures have.
# Refuses hard NMS in place of soft (AP +0.003), and right AP beside eleven other metrics that are a fifth too low.
VERDICT_LIMIT = 0.001


class PublishedRow(NamedTuple):
    """Published of one model. `metrics` are fractions of one; what is not stated is absent from `conditions`."""

    source_name: str  # the file in results/reference, without its ending
    system: str
    source: str
    model: str
    metrics: Mapping[str, float]
    conditions: Mapping[str, Any]
    details: Mapping[str, Any]  # as it is in the file: variant, generation, fingerprint, speed, context ...

    @property
    def label(self) -> str:
        """What tells the row from its neighbours, in words."""
        parts = [self.details.get(name) for name in ("generation", "published", "variant", "context")]
        parts += [f"{name} {self.conditions[name]}" for name in ("precision", "score_threshold") if name in self.stated]
        return ", ".join(str(part) for part in parts if part)

    @property
    def stated(self) -> Mapping[str, Any]:
        """The conditions of this row alone, without those its whole source shares."""
        found: Mapping[str, Any] = self.details.get("conditions", {})
        return found


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Every published row, file by file."""
    folder = resources.files(__package__.partition(".")[0]) / "results" / "reference"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(
        PublishedRow(
            file.name.removesuffix(".json"),
            data["system"],
            data["source"],
            row["model"],
            row.get("metrics", {}),
            {**data["conditions"], **row.get("conditions", {}), **_images(row)},
            row,
        )
        for file in files
        for data in [json.loads(file.read_text(encoding="utf-8"))]
        for row in data["rows"]
    )


def _images(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a row was measured on: a published figure is of the whole split."""
    if "split" not in row:
        return {}
    split = row["split"]
    return {"split": split, "images": IMAGES[split]} if split in IMAGES else {"split": split}


def find_published(
    model: str | None = None, system: str | None = None, split: str | None = None, speed: bool = False
) -> list[PublishedRow]:
    """Rows of a model (its full name) and of systems whose name contains `system`; with metrics, or with speeds."""
    return [
        published
        for published in published_rows()
        if model in (None, published.model)
        and (system or "").lower() in published.system.lower()
        and (split in (None, published.conditions.get("split")))
        and ("speed" in published.details if speed else bool(published.metrics))
    ]


class Difference(NamedTuple):
    """One condition in which a published row and a run differ."""

    condition: str
    published: Any
    run: Any
    known_effect: str | None


def conditions_of(published: PublishedRow) -> dict[str, Any]:
    """All of CONDITIONS for a row: what it states, else the official evaluation's, else NOT_STATED."""
    split = published.conditions.get("split")
    whole = {"images": IMAGES.get(split), "annotations": OFFICIAL_ANNOTATIONS.get(split)} if split else {}
    known = {**OFFICIAL_CONDITIONS, **{name: value for name, value in whole.items() if value}, **published.conditions}
    return {name: known.get(name, NOT_STATED) for name in CONDITIONS}


def differences(published: PublishedRow, run: Mapping[str, Any]) -> list[Difference]:
    """The conditions in which a run differs from a row; what a run lacks differs too."""
    return [
        Difference(name, value, run.get(name, NOT_STATED), KNOWN_EFFECTS.get(name))
        for name, value in conditions_of(published).items()
        if value == NOT_STATED or value != run.get(name)
    ]


def best_published(model: str, fingerprint: str | None, run: Mapping[str, Any]) -> PublishedRow | None:
    """The row to compare a run with: of this very checkpoint if it is a known one, and with the fewest differences.

    Among equals the one with the most metrics, then the first. None when nothing is published of this model.
    """
    eligible: Sequence[PublishedRow] = [row for row in find_published(model) if "AP" in row.metrics]
    exact = [row for row in eligible if fingerprint and row.details.get("fingerprint") == fingerprint]
    official = [row for row in eligible if row.system == "google/automl"]
    return min(
        exact or official or eligible, key=lambda row: (len(differences(row, run)), -len(row.metrics)), default=None
    )


class PublishedMetric(NamedTuple):
    """One metric of a run beside the published one, None where the row does not state it."""

    metric: str
    ours: float
    published: float | None


@dataclass(frozen=True, kw_only=True)
class PublishedComparison:
    """A run beside a published row. `holds` is None where conditions differ: nothing is proven either way."""

    system: str
    source: str
    model: str
    label: str
    rows: tuple[PublishedMetric, ...]
    differences: tuple[Difference, ...]
    known_checkpoint: bool

    @property
    def holds(self) -> bool | None:
        """Whether every metric that the row states is met; None where conditions differ."""
        return None if self.differences else not self.beyond

    def plain(self) -> dict[str, Any]:
        """As it stands in a record's JSON."""
        return {
            "verdict": self.verdict,
            "holds": self.holds,
            "known_checkpoint": self.known_checkpoint,
            "system": self.system,
            "source": self.source,
            "model": self.model,
            "label": self.label,
            "rows": [row._asdict() for row in self.rows],
            "differences": [each._asdict() for each in self.differences],
        }

    @property
    def beyond(self) -> list[str]:
        """The metrics that the row states and the run does not meet, the worst first."""
        gaps = {name: abs(ours - theirs) for name, ours, theirs in self.rows if theirs is not None}
        return sorted((name for name, gap in gaps.items() if not gap <= VERDICT_LIMIT), key=lambda name: -gaps[name])

    @property
    def verdict(self) -> str:
        """One line."""
        judged = {name: (ours, theirs) for name, ours, theirs in self.rows if theirs is not None}
        ours, theirs = judged["AP"]
        gap = f"AP {ours:.4f}, published {theirs:.4f}, difference {ours - theirs:+.4f}"
        if self.differences:
            named = "; ".join(
                f"{each.condition}: published {each.published}, here {each.run}" for each in self.differences
            )
            return f"not comparable ({named}): {gap}"
        whose = "" if self.known_checkpoint else "; the checkpoint is none whose checksums are known"
        if self.holds:
            return f"reproduced: {gap}; {len(judged)} of {len(judged)} published metrics within {VERDICT_LIMIT}{whose}"
        names = ", ".join(f"{name} {judged[name][0] - judged[name][1]:+.4f}" for name in self.beyond)
        return f"not reproduced: {gap}; {len(self.beyond)} of {len(judged)} beyond {VERDICT_LIMIT}: {names}{whose}"


def compare_with_row(
    published: PublishedRow, metrics: Mapping[str, float], run: Mapping[str, Any]
) -> PublishedComparison:
    """All twelve metrics of a run beside a row's. `run` holds the run's conditions and checkpoint "fingerprint".

    Every metric that the row states is judged, each by the same limit.
    """
    fingerprint = published.details.get("fingerprint")
    return PublishedComparison(
        system=published.system,
        source=published.source,
        model=published.model,
        label=published.label,
        rows=tuple(PublishedMetric(name, metrics[name], published.metrics.get(name)) for name in METRICS),
        differences=tuple(differences(published, run)),
        known_checkpoint=fingerprint is not None and fingerprint == run.get("fingerprint"),
    )
