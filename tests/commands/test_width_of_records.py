"""Reports of long commands fit 80 columns, made of committed records: benchmarks, ablations, evaluations."""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from score_records import RECORD, REPRODUCED, RUN

from effconv.commands.options import deliver
from effconv.parity.ablation.record import AblationRecord, Gap
from effconv.parity.ablation.table import ablation_line
from effconv.parity.ablation.waterfall import waterfall_lines
from effconv.parity.benchmarks import tables
from effconv.parity.benchmarks.allocation import AllocationRecord, allocation_table
from effconv.parity.benchmarks.contest_records import EvaluationRecord, InputRecord, NmsRecord, PredictRecord
from effconv.parity.benchmarks.network_records import AblationCostRecord, InferenceRecord, TrainingRecord
from effconv.parity.benchmarks.process_records import ComparisonCostRecord, ConversionRecord, MetricsEnginesRecord
from effconv.parity.benchmarks.runs import RunsRecord, runs_table
from effconv.parity.benchmarks.waiting import WaitingRecord, waiting_table
from effconv.parity.evaluation.report import print_published, print_scores
from effconv.parity.rendering.fitted import EMPHASIS, fitted
from effconv.parity.rendering.terminal import wrapped_text


def contest(record: Any) -> str:
    return tables.contest_text(record, "image")


MEASURED = Path(__file__).parents[2] / "results" / "measured"
BENCHMARKS: dict[str, tuple[Any, Callable[[Any], str]]] = {
    "bench-ablation": (AblationCostRecord, tables.ablation_cost),
    "bench-allocation": (AllocationRecord, allocation_table),
    "bench-coco": (MetricsEnginesRecord, tables.metrics_engine_table),
    "bench-eval": (EvaluationRecord, contest),
    **{path.stem: (InferenceRecord, tables.inference_table) for path in MEASURED.glob("bench-inference-*.json")},
    "bench-input": (InputRecord, contest),
    "bench-nms": (NmsRecord, contest),
    "bench-runs": (RunsRecord, runs_table),
    "bench-predict-d0": (PredictRecord, tables.predict_table),
    "bench-training-d0": (TrainingRecord, tables.training_table),
    "bench-training-d1": (TrainingRecord, tables.training_table),
    "bench-waiting": (WaitingRecord, waiting_table),
    "convert-d0": (ConversionRecord, tables.conversion_table),
    "parity-d7x": (ComparisonCostRecord, tables.comparison_cost),
}


@pytest.fixture(params=["80", None], autouse=True)
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """A terminal of 80 columns, and none."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if request.param:
        monkeypatch.setenv("COLUMNS", request.param)
    return request.param  # type: ignore[no-any-return]


def measured(repository: Path, name: str) -> Any:
    return json.loads((repository / "results" / "measured" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_fits(name: str, columns: str | None, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind, table = BENCHMARKS[name]
    record = kind.read(measured(repository, name))
    deliver(record.plain(), None, False, lambda: table(record))
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    rows = [line for line in lines if "  " in line.strip() or set(line) <= {"-", " "}]
    assert max(map(len, lines if columns else rows), default=0) <= 80
    assert not [line for line in lines if line.startswith("|")]
    # Nothing is lost on the way but marks of Markdown: every word is there.
    assert words(EMPHASIS.sub(r"\2", table(record))) == words(shown)


def words(text: str) -> set[str]:
    plain = text.replace("|", " ").split()
    return {word for word in plain if set(word) != {"-"}}


def test_every_benchmark_that_has_a_record_is_looked_at(repository: Path) -> None:
    found = {path.stem for path in (repository / "results" / "measured").glob("bench-*.json")}
    assert found <= set(BENCHMARKS)


def test_ablations_fit(repository: Path) -> None:
    record = AblationRecord.read(measured(repository, "ablations"))
    assert len(record.rows) > 30
    assert max(len(ablation_line(row)) for row in record.rows) <= 80
    parts = dict.fromkeys(sorted((row.name for row in record.rows), key=len)[-3:], -0.0123)
    gap = Gap(first=0.5, last=0.4, gap=-0.1, parts=parts, alone=parts, interaction=-0.0012, evaluations=8)
    assert max(map(len, wrapped_text(waterfall_lines(gap)).splitlines())) <= 80


def test_evaluations_fit(columns: str | None) -> None:
    conditions = dict.fromkeys(("nms", "split", "precision", "device", "engine"), "as long as a condition can be")
    long = dataclasses.replace(RECORD, run=dataclasses.replace(RUN, conditions=conditions), published=REPRODUCED)
    for show in (print_scores, print_published):
        output = io.StringIO()
        show(long, Console(file=output, width=80))
        lines = output.getvalue().splitlines()
        assert len(lines) > 8
        if columns:
            assert max(map(len, lines)) <= 80
        else:
            assert max(len(line) for line in lines if line.startswith("  ")) <= 80


def test_a_table_fits_by_its_widest_column_and_cuts_no_word() -> None:
    table = "| name | ms | what |\n|---|---|---|\n| *a* \\| b | 1.5 | one two three four |\n| **c** | 12 | five |"
    assert fitted(table, 24).splitlines() == [
        "name    ms  what",
        "-----  ---  ------------",
        "a | b  1.5  one two",
        "            three four",
        "c       12  five",
    ]
    assert fitted("| a |\n|---|\n| abcdefghij |", 4).splitlines() == ["a", "----------", "abcdefghij"]
    assert fitted("not a | table of *any* kind", 80) == "not a | table of any kind"


@pytest.mark.parametrize(
    "text",
    [
        "| a lone line",
        "| a | b |",
        "| a | b |\n| c | d |",  # no rule below the heading
        "| a |\n|---|\n| b | c |",  # a row of more cells
        "| a\n|---",
        "|",
        "a*b*c and 2**3**4",
        "5 * 3 * 2",
        "*args and **kwargs",
        "every * and ** alone",
    ],
)
def test_what_is_no_table_and_no_emphasis_stays(text: str) -> None:
    assert fitted(text, 80) == text


def test_emphasis_is_of_whole_words() -> None:
    assert fitted("(*one*), **two words**, *2*3*", 80) == "(one), two words, 2*3"
    assert fitted("| *a* |\n|---|\n| 2*3*4 |", 80).splitlines() == ["a", "-----", "2*3*4"]
