"""A record of an evaluation, of made-up values."""

from effconv.parity.evaluation.coco import METRICS
from effconv.parity.evaluation.published_rows import PublishedComparison, PublishedMetric
from effconv.parity.evaluation.score_record import ModelRun, ScoreRecord

RUN = ModelRun(
    model="efficientdet-d0",
    checkpoint="d0",
    fingerprint=None,
    weights_file={"sha256": "1" * 64},
    conditions={"nms": "soft", "split": "val2017", "score_threshold": 0.0, "precision": None},
    network_engine="eager",
    seconds=12.0,
    processes=1,
    not_finite={},
)
RECORD = ScoreRecord(
    of="efficientdet-d0",
    annotations="instances_val2017.json",
    sha256="0" * 64,
    images_in_all=5000,
    images=5000,
    detections=500000,
    metrics_engine="ultrafast",
    metrics={**dict.fromkeys(METRICS, 0.25), "AP": 0.34292, "APs": -1.0},
    per_category={f"category {number}": number / 100 for number in range(20)} | {"unseen": -1.0},
    skipped={},
    dataset_faults={},
    provenance={},
    run=RUN,
)
REPRODUCED = PublishedComparison(
    system="google/automl",
    source="a test",
    model="efficientdet-d0",
    label="made up",
    rows=(PublishedMetric("AP", 0.3431, 0.343), PublishedMetric("APs", 0.1, None)),
    differences=(),
    known_checkpoint=True,
)
