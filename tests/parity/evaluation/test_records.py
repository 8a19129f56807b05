"""Published results: complete, consistent, found by their conditions, and compared only with their like."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from effconv.convert.fingerprints import known_checkpoints
from effconv.effdet_torch.config import VARIANTS
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.coco import METRICS
from effconv.parity.evaluation.pipeline import Settings
from effconv.parity.evaluation.published_rows import (
    CONDITIONS,
    KNOWN_EFFECTS,
    NOT_STATED,
    OFFICIAL_ANNOTATIONS,
    OFFICIAL_CONDITIONS,
    VERDICT_LIMIT,
    PublishedRow,
    best_published,
    compare_with_row,
    conditions_of,
    differences,
    find_published,
    published_rows,
)

# How the official code evaluated d0's coco2 checkpoint when its log was written.
RUN: dict[str, Any] = {
    "split": "val2017",
    "images": 5000,
    "annotations": OFFICIAL_ANNOTATIONS["val2017"],
    "weights": "ema",
    "image_size": 512,
    "image_decoder": "tensorflow",
    "resize": "tensorflow",
    "anchors": "legacy",
    "candidates": "topk",
    "nms": "soft",
    "score_threshold": 0.0,
    "max_detections": 100,
    "precision": "float32",
    "fingerprint": "efficientdet-d0.coco2-343",
}
# Which of our files hold each block of the published facts.
FILES = {
    "google_automl_readme_table": ["automl-readme"],
    "google_automl_generations": ["automl-generations"],
    "google_automl_det_advprop_table": ["automl-advprop"],
    "google_automl_fixed640_table": ["automl-fixed640"],
    "google_automl_lite_table": ["automl-lite"],
    "effdet_rwightman_table": ["effdet"],
    "effdet_rwightman_12metrics": ["effdet"],
    "zylo117_12metrics": ["yet-another-efficientdet"],
    "zylo117_table": ["yet-another-efficientdet"],
    "bonlime_notes_12metrics": ["pytorch-tools"],
    "bonlime_notes_speed": ["pytorch-tools"],
    "nvidia_trt_sample": ["nvidia"],
    "nvidia_trt_issue_2568_d1_by_score_thresh": ["nvidia"],
    "mmdetection_projects": ["mmdetection"],
    "lucifer443": ["lucifer443"],
    "automl_issue_858": ["automl-issue-858"],
}


def test_every_record_is_well_formed() -> None:
    assert len(published_rows()) > 300
    for row in published_rows():
        assert set(row.metrics) <= set(METRICS), row
        assert all(0 <= value < 1 for value in row.metrics.values()), row
        assert row.metrics or {"speed", "flops_B"} & set(row.details), row
        assert ("split" in row.conditions) == bool(row.metrics), row
        assert row.source
        assert row.system
        if row.system == "google/automl":
            assert row.model in VARIANTS, row
            assert row.details.get("split") is None or row.conditions["image_size"] > 0
    assert set(KNOWN_EFFECTS) <= set(CONDITIONS)


def test_every_known_checkpoint_has_one_record_of_all_twelve_metrics() -> None:
    logs = [row for row in published_rows() if "fingerprint" in row.details]
    assert sorted(row.details["fingerprint"] for row in logs) == [known.label for known in known_checkpoints()]
    for row in logs:
        assert list(row.metrics) == list(METRICS)
        known = next(known for known in known_checkpoints() if known.label == row.details["fingerprint"])
        assert known.model == row.model


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@pytest.mark.shared
def test_every_published_number_is_in_a_record(shared: Path, repository: Path) -> None:
    published = json.loads((shared / "facts" / "published_results.json").read_text())
    assert set(published) == {*FILES, "_meta"}
    for block, names in FILES.items():
        ours: set[float] = set()
        for name in names:
            ours |= set(numbers(json.loads((repository / "results" / "reference" / f"{name}.json").read_text())))
        missing = [each for each in numbers(published[block]) if not {each, round(each / 100, 6)} & ours]
        assert not missing, (block, missing)
    for path in (shared / "facts" / "checkpoint_indexes").glob("*.json"):
        log = json.loads(path.read_text())["val2017"]
        row = next(row for row in published_rows() if row.details.get("fingerprint") == path.stem)
        assert sorted([*row.metrics.values(), *row.details["losses"].values()]) == sorted(log.values())


def test_records_are_found_by_model_system_and_split() -> None:
    peers = find_published("efficientdet-d1", "EffDet", "val2017")
    assert 0.40107 in [row.metrics["AP"] for row in peers]
    assert {row.system for row in peers} == {"effdet (timm)"}
    assert all("speed" in row.details for row in find_published("efficientdet-d0", speed=True))
    assert find_published("efficientdet-d9") == []


def own_row() -> PublishedRow:
    row = best_published("efficientdet-d0", RUN["fingerprint"], RUN)
    assert row is not None
    return row


def test_a_run_meets_the_record_of_its_own_checkpoint() -> None:
    row = own_row()
    assert row.metrics["AP"] == 0.34292528
    assert differences(row, RUN) == []
    metrics = {**row.metrics, "AP": 0.3435}
    comparison = compare_with_row(row, metrics, RUN)
    assert (comparison.holds, comparison.known_checkpoint) == (True, True)
    gap = "AP 0.3435, published 0.3429, difference +0.0006"
    assert comparison.verdict == f"reproduced: {gap}; 12 of 12 published metrics within 0.001"
    assert [name for name, _, _ in comparison.rows] == list(METRICS)
    assert comparison.rows[1][1:] == (0.52428037, 0.52428037)


@pytest.mark.parametrize("name", METRICS)
def test_every_published_metric_is_judged(name: str) -> None:
    row = own_row()
    for change, holds in ((0.99, True), (1.01, False), (-1.01, False)):
        metrics = {**row.metrics, name: row.metrics[name] + change * VERDICT_LIMIT}
        comparison = compare_with_row(row, metrics, RUN)
        assert comparison.holds is holds
        assert comparison.beyond == ([] if holds else [name])
    assert comparison.verdict.startswith("not reproduced: AP ")
    assert comparison.verdict.endswith(f"; 1 of 12 beyond 0.001: {name} -0.0010")


def test_the_right_ap_beside_eleven_wrong_metrics_is_not_reproduced() -> None:
    row = own_row()
    metrics = {name: value * (1 if name == "AP" else 0.8) for name, value in row.metrics.items()}
    comparison = compare_with_row(row, metrics, RUN)
    assert comparison.holds is False
    assert "difference +0.0000; 11 of 12 beyond 0.001: ARl -0.1413, " in comparison.verdict


def test_what_a_record_does_not_publish_is_not_judged() -> None:
    row = own_row()._replace(metrics={"AP": 0.343})
    comparison = compare_with_row(row, {**dict.fromkeys(METRICS, 0.0), "AP": 0.343}, RUN)
    assert comparison.holds is True
    assert "1 of 1 published metrics" in comparison.verdict


def test_other_conditions_are_named_with_both_values_and_prove_nothing() -> None:
    run = {**RUN, "nms": "hard", "image_size": 640, "images": 66}
    row = best_published("efficientdet-d0", RUN["fingerprint"], run)
    assert row is not None
    comparison = compare_with_row(row, row.metrics, run)
    assert comparison.holds is None
    found = [(each.condition, each.published, each.run, bool(each.known_effect)) for each in comparison.differences]
    assert found == [("images", 5000, 66, False), ("image_size", 512, 640, False), ("nms", "soft", "hard", True)]
    named = "images: published 5000, here 66; image_size: published 512, here 640; nms: published soft, here hard"
    assert comparison.verdict.startswith(f"not comparable ({named}): AP 0.3429")


def test_what_a_record_does_not_state_is_official() -> None:
    settings = Settings()
    for name in set(OFFICIAL_CONDITIONS) - {"weights", "precision"}:
        assert OFFICIAL_CONDITIONS[name] == getattr(settings, name)
    assert (OFFICIAL_CONDITIONS["weights"], OFFICIAL_CONDITIONS["precision"]) == ("ema", "float32")
    silent = own_row()._replace(conditions={"split": "val2017", "image_size": 512})
    official = {**RUN, "anchors": "official"}
    assert compare_with_row(silent, silent.metrics, official).holds is True
    other = {
        "weights": "raw",
        "image_decoder": "pillow",
        "resize": "antialiased",
        "anchors": "legacy",
        "candidates": "argmax",
    }
    other |= {"nms": "hard", "score_threshold": 0.4, "max_detections": 99, "precision": "bfloat16", "images": 4999}
    for name, value in other.items():
        comparison = compare_with_row(silent, silent.metrics, {**official, name: value})
        assert comparison.holds is None
        assert f"({name}: published {conditions_of(silent)[name]}, here {value})" in comparison.verdict


@pytest.mark.parametrize("name", CONDITIONS)
def test_what_a_run_does_not_state_proves_nothing(name: str) -> None:
    row = own_row()
    run = {key: value for key, value in RUN.items() if key != name}
    comparison = compare_with_row(row, row.metrics, run)
    assert comparison.holds is None
    assert f"{name}: published {conditions_of(row)[name]}, here {NOT_STATED}" in comparison.verdict


def test_a_split_whose_annotations_are_not_on_record_proves_nothing() -> None:
    hidden = own_row()._replace(conditions={**own_row().conditions, "split": "test-dev2017", "images": 20288})
    run = {**RUN, "split": "test-dev2017", "images": 20288}
    comparison = compare_with_row(hidden, hidden.metrics, run)
    assert comparison.holds is None
    assert [each.condition for each in comparison.differences] == ["annotations"]
    uncounted = {name: value for name, value in hidden.conditions.items() if name != "images"}
    found = differences(hidden._replace(conditions=uncounted), run)
    assert [each.condition for each in found] == ["images", "annotations"]


def test_annotations_are_known_by_content_whatever_the_splits_name(tmp_path: Path) -> None:
    # As many boxes, categories and images as COCO's own, under its name; not its bytes.
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 8, "width": 8} for number in range(5000)]
    categories = [{"id": number, "name": str(number)} for number in range(80)]
    boxes = [{"image_id": number % 5000, "category_id": 0, "bbox": [0, 0, 4, 4]} for number in range(36781)]
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": boxes}))
    dataset = read_dataset(tmp_path)
    counts = "36781 boxes of 80 categories on 5000 images (sha256 "
    assert dataset.content.startswith(counts)
    assert OFFICIAL_ANNOTATIONS["val2017"].startswith(counts)
    row = own_row()
    run = {**RUN, "split": dataset.split, "images": len(dataset.images), "annotations": dataset.content}
    comparison = compare_with_row(row, row.metrics, run)
    assert comparison.holds is None
    named = f"annotations: published {OFFICIAL_ANNOTATIONS['val2017']}, here {dataset.content}"
    assert comparison.verdict.startswith(f"not comparable ({named}): ")


def test_an_unknown_checkpoint_meets_the_official_record_that_is_nearest() -> None:
    row = best_published("efficientdet-d0", None, RUN)
    assert row is not None
    assert row.system == "google/automl"
    assert differences(row, RUN) == []
    comparison = compare_with_row(row, row.metrics, {**RUN, "fingerprint": None})
    assert comparison.known_checkpoint is False
    assert comparison.verdict.endswith("the checkpoint is none whose checksums are known")
    older = best_published("efficientdet-d0", None, {**RUN, "nms": "hard"})
    assert older is not None
    assert older.conditions["nms"] == "hard"
    assert best_published("tiny-swish", None, RUN) is None
