"""Records of the benchmarks that are in the repository: read as values, and written again, nothing changes."""

import json
from pathlib import Path

import pytest

from effconv.parity.benchmarks.allocation import AllocationRecord
from effconv.parity.benchmarks.contest_records import EvaluationRecord, InputRecord, NmsRecord, PredictRecord
from effconv.parity.benchmarks.network_records import AblationCostRecord, InferenceRecord, TrainingRecord
from effconv.parity.benchmarks.precision_record import PrecisionRecord
from effconv.parity.benchmarks.process_records import ComparisonCostRecord, ConversionRecord, MetricsEnginesRecord
from effconv.parity.benchmarks.runs import RunsRecord
from effconv.parity.benchmarks.waiting import OURS, WaitingRecord
from effconv.parity.plain import Plain
from effconv.strict_json import json_text

MEASURED = Path(__file__).parents[3] / "results" / "measured"
# Of these models' networks, d0's and those that were measured.
NETWORKS = ("d0", *(name for name in ("d1", "d3", "lite0") if (MEASURED / f"bench-inference-{name}.json").exists()))
KINDS: dict[str, type[Plain]] = {
    "bench-ablation": AblationCostRecord,
    "bench-allocation": AllocationRecord,
    "bench-coco": MetricsEnginesRecord,
    "bench-eval": EvaluationRecord,
    **{f"bench-inference-{model}": InferenceRecord for model in NETWORKS},
    "bench-input": InputRecord,
    "bench-nms": NmsRecord,
    "bench-predict-d0": PredictRecord,
    "bench-training-d0": TrainingRecord,
    "bench-training-d1": TrainingRecord,
    "bench-waiting": WaitingRecord,
    "bench-runs": RunsRecord,
    "convert-d0": ConversionRecord,
    "convert-d7x": ConversionRecord,
    "parity-d7x": ComparisonCostRecord,
    "precision-engines": PrecisionRecord,
}


def test_every_record_of_a_benchmark_is_among_them(repository: Path) -> None:
    measured = repository / "results" / "measured"
    patterns = ("bench-*", "convert-*", "parity-d7x*", "precision-*")
    found = [path for pattern in patterns for path in measured.glob(f"{pattern}.json")]
    assert {path.stem for path in found} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_committed_record_is_read_and_written_as_it_is(name: str, repository: Path) -> None:
    text = (repository / "results" / "measured" / f"{name}.json").read_text()
    assert json_text(KINDS[name].read(json.loads(text)).plain(), indent=1) + "\n" == text


def test_how_long_threads_wait_is_what_was_measured_to_be_best(repository: Path) -> None:
    """It costs little alone, and beside a busy process it takes most of what there is to gain."""
    record = WaitingRecord.read(json.loads((repository / "results" / "measured" / "bench-waiting.json").read_text()))
    alone, busy = ({row.way: row.milliseconds[place] for row in record.rows} for place in (0, 1))
    assert alone[OURS] < 1.1 * min(alone.values())
    assert busy[OURS] < 0.8 * busy["as OpenMP has it"]
