"""The picture of records of networks: what its bars are, and that every record, batch and contestant is in it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from effconv.parity.benchmarks.chart import relative_speeds, speed_chart
from effconv.parity.benchmarks.network_records import InferenceRecord


@pytest.fixture(scope="module")
def record(repository: Path) -> InferenceRecord:
    path = repository / "results" / "measured" / "bench-inference-d0.json"
    return InferenceRecord.read(json.loads(path.read_text()))


def test_quartiles_of_speed_are_those_of_time_the_other_way_round(record: InferenceRecord) -> None:
    first = record.rows[0]
    theirs = replace(first, contestant="effdet", beside="effdet", milliseconds_per_image=100.0, times_faster=1.0)
    theirs = replace(theirs, quartiles=(80.0, 125.0))
    ours = replace(
        theirs, contestant="fast", milliseconds_per_image=50.0, quartiles=(40.0, 62.5), times_faster=100.0 / 50.0
    )
    assert relative_speeds([ours, theirs]) == [("fast", 2.0, 1.6, 2.5), ("effdet", 1.0, 0.8, 1.25)]


def test_every_record_batch_and_contestant_has_its_bar(record: InferenceRecord) -> None:
    other = replace(record, model="efficientdet-d9", rows=record.rows[:3])
    drawn = speed_chart([record, other])
    assert drawn == speed_chart([record, other])
    for title in ("efficientdet-d0 at 512x512, batch 1", "efficientdet-d0 at 512x512, batch 8", "efficientdet-d9 at"):
        assert drawn.count(title) == 1
    for row in record.rows[:3]:
        assert drawn.count(f">{row.contestant}</text>") == 3
