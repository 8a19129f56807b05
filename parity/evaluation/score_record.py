"""Records of COCO metrics: of a model, of a file of detections, or beside what was published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .published_rows import PublishedComparison


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """How a model was evaluated."""

    model: str
    checkpoint: str  # the file's name
    fingerprint: str | None  # label of the released checkpoint that the weights are, by their checksums
    weights_file: Mapping[str, str]  # `weights_identity.weights_identity`
    conditions: Mapping[str, Any]  # of `published_rows.CONDITIONS`
    network_engine: str
    seconds: float  # of all images, from their bytes to detections
    processes: int
    not_finite: Mapping[str, int]  # by image id: detections left out, whose boxes or scores are not finite
    exported: Mapping[str, Any] | None = None  # of an exported file: `FileDetector.record`


@dataclass(frozen=True, kw_only=True)
class ScoreRecord:
    """COCO's twelve metrics (fractions of one, -1 where there is nothing to measure), and what they are of."""

    of: str  # a model, or a file of detections, by name
    annotations: str  # the file's name
    sha256: str  # of the annotations
    images_in_all: int  # of the dataset
    images: int  # that were evaluated, those among them that could not be read
    detections: int
    metrics_engine: str
    metrics: Mapping[str, float]
    per_category: Mapping[str, float]  # AP by category name
    skipped: Mapping[str, str]  # by image id: why it could not be read
    dataset_faults: Mapping[str, Any]  # `Examination.record`
    provenance: Mapping[str, Any]
    run: ModelRun | None = None  # None: of a file of detections
    published: PublishedComparison | None = None

    def plain(self) -> dict[str, Any]:
        """As it is written: JSON's values."""
        measured = {
            "dataset": {
                "annotations": self.annotations,
                "sha256": self.sha256,
                "images_in_all": self.images_in_all,
            },
            "images": self.images,
            "detections": self.detections,
            "engine": self.metrics_engine,
            "metrics": dict(self.metrics),
            "per_category": dict(self.per_category),
            "skipped": dict(self.skipped),
            "dataset_faults": dict(self.dataset_faults),
        }
        if self.run is None:
            what = {"what": "COCO metrics of a file of detections", "detections_file": self.of}
            return {**what, **measured, "provenance": dict(self.provenance)}
        run = self.run
        record = {
            "what": "COCO metrics beside a published row" if self.published else "COCO metrics of a model",
            "model": run.model,
            "checkpoint": run.checkpoint,
            "fingerprint": run.fingerprint,
            "weights_file": dict(run.weights_file),
            "conditions": dict(run.conditions),
            **measured,
            "not_finite": dict(run.not_finite),
            "network_engine": run.network_engine,
            "seconds": run.seconds,
            "images_per_second": self.images / run.seconds,
            "processes": run.processes,
            "provenance": dict(self.provenance),
        }
        if run.exported is not None:
            record["exported"] = dict(run.exported)
        return record | ({"published": self.published.plain()} if self.published else {})
