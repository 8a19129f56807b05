"""Render what is generated in the documentation: tables and pictures from results/measured/.

    python tools/render_docs.py

A test fails when they differ from what this would write.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headline import headline_table
from install_table import install_summary, install_table
from reader_table import reader_table
from strip import strip

from effconv.parity.ablation.chart import ablation_chart
from effconv.parity.ablation.record import AblationRecord
from effconv.parity.ablation.table import ablation_table, coverage_table
from effconv.parity.benchmarks.allocation import AllocationRecord, allocation_table
from effconv.parity.benchmarks.chart import speed_chart
from effconv.parity.benchmarks.contest_records import EvaluationRecord, InputRecord, NmsRecord, PredictRecord
from effconv.parity.benchmarks.network_records import AblationCostRecord, InferenceRecord, TrainingRecord
from effconv.parity.benchmarks.precision_record import PrecisionRecord, precision_table
from effconv.parity.benchmarks.process_records import ComparisonCostRecord, ConversionRecord, MetricsEnginesRecord
from effconv.parity.benchmarks.runs import RunsRecord, runs_table
from effconv.parity.benchmarks.tables import (
    ablation_cost,
    comparison_cost,
    contest_text,
    conversion_table,
    inference_table,
    metrics_engine_table,
    predict_table,
    training_table,
)
from effconv.parity.benchmarks.waiting import WaitingRecord, waiting_table
from effconv.parity.comparison.end_to_end_record import EndToEndTable
from effconv.parity.comparison.measured_records import ProvenModels
from effconv.parity.comparison.port_tables import backbone_text, ports_table
from effconv.parity.comparison.proof_tables import (
    bounds_table,
    float32_summary,
    mutants_summary,
    mutants_table,
    smallest_table,
    verdicts_table,
)
from effconv.parity.comparison.tables import (
    budget_table,
    end_to_end_table,
    estimate_table,
    fault_summary,
    fault_table,
    parity_table,
    sensitivity_table,
)
from effconv.parity.referee.cost_tables import ports_cost_table
from effconv.parity.referee.loss_records import LossesRecord, losses_table, training_difference_table
from effconv.parity.referee.records import RefereeRecord
from effconv.parity.referee.stage_records import PortStagesRecord, port_stages_table
from effconv.parity.referee.tables import planted_table, referee_summary, referee_table, versions_text
from effconv.parity.training.finetuning_record import FinetuningRecord, finetuning_table
from effconv.parity.verification.reliability_tables import hostile_table, kills_table
from effconv.parity.verification.tables import detector_table

REPOSITORY = Path(__file__).resolve().parent.parent
MEASURED = REPOSITORY / "results" / "measured"
INFERENCE = tuple(f"bench-inference-{model}" for model in ("d0", "d1", "d3", "lite0"))  # those that there are
TRAINING = ("bench-training-d0", "bench-training-d1")
CHART, SPEED = REPOSITORY / "docs" / "ablations.svg", REPOSITORY / "docs" / "speed.svg"
STRIP = REPOSITORY / "docs" / "strip.svg"
RENDERED = (
    "README.md",
    "docs/convert.md",
    "docs/prove.md",
    "docs/evaluate.md",
    "docs/ablations.md",
    "docs/deploy.md",
    "docs/train.md",
    "docs/precision.md",
    "docs/performance.md",
    "docs/verdicts.md",
    "docs/reliability.md",
    "docs/ports.md",
)


def tables() -> dict[str, str]:
    """{name: text} of everything that is rendered from a record."""
    records = {path.stem: json.loads(path.read_text()) for path in MEASURED.glob("*.json")}
    parity, referee = ProvenModels.read(records["parity"]), RefereeRecord.read(records["referee"])
    budgeted = ("efficientdet-d0", "512x512")
    return {
        "headline": headline_table(records),
        "reader": reader_table(records["reader"]),
        "install": install_table(records["install"]),
        "install-summary": install_summary(records["install"]),
        "parity": parity_table(parity),
        "operations": budget_table(parity, *budgeted, "rounding_by_operation"),
        "along": budget_table(parity, *budgeted, "rounding_along_the_network"),
        "estimates": estimate_table(parity),
        "faults": fault_table(records["faults"]),
        "fault-summary": fault_summary(records["faults"]),
        "bounds": bounds_table(records["float32"]),
        "float32-summary": float32_summary(records["float32"]),
        "hostile": hostile_table(records["hostile"]),
        "kills": kills_table(records["kills"]),
        "verdicts": verdicts_table(records["verdicts"]),
        "mutant-summary": mutants_summary(records["mutants"]),
        "mutants": mutants_table(records["mutants"]),
        "float32-sensitivity": smallest_table(records["float32"]),
        "sensitivity": sensitivity_table(records["sensitivity"]),
        "ports": ports_table(records["ports"]),
        "referee": referee_table(referee),
        "ports-cost": ports_cost_table(
            referee, AblationRecord.read(records["ablations"]), InferenceRecord.read(records["bench-inference-d0"])
        ),
        "referee-planted": planted_table(referee),
        "referee-summary": referee_summary(referee),
        "referee-versions": versions_text(referee),
        "ports-stages": port_stages_table(PortStagesRecord.read(records["ports-stages"])),
        "losses": losses_table(LossesRecord.read(records["losses"])),
        "losses-training": training_difference_table(LossesRecord.read(records["losses"])),
        "backbone": backbone_text(records["backbone-lite0"]),
        "parity-d7x": comparison_cost(ComparisonCostRecord.read(records["parity-d7x"])),
        "convert-d0": conversion_table(ConversionRecord.read(records["convert-d0"])),
        "convert-d7x": conversion_table(ConversionRecord.read(records["convert-d7x"])),
        "end-to-end": end_to_end_table(EndToEndTable.read(records["end-to-end"])),
        "detector": detector_table(records["shapes-training"], records["shapes-official"]),
        "finetune": finetuning_table(FinetuningRecord.read(records["finetune"])),
        "ablations": ablation_table(AblationRecord.read(records["ablations"])),
        "bootstrap-coverage": coverage_table(records["bootstrap-coverage"]),
        **{name: inference_section(records.get(name)) for name in INFERENCE},
        **{name: training_table(TrainingRecord.read(records[name])) for name in TRAINING},
        "bench-ablation": ablation_cost(AblationCostRecord.read(records["bench-ablation"])),
        "bench-predict-d0": predict_table(PredictRecord.read(records["bench-predict-d0"])),
        "precision-engines": precision_table(PrecisionRecord.read(records["precision-engines"])),
        "bench-allocation": allocation_table(AllocationRecord.read(records["bench-allocation"])),
        "bench-waiting": waiting_table(WaitingRecord.read(records["bench-waiting"])),
        "bench-runs": runs_table(RunsRecord.read(records["bench-runs"])),
        "bench-coco": metrics_engine_table(MetricsEnginesRecord.read(records["bench-coco"])),
        "bench-input": contest_text(InputRecord.read(records["bench-input"]), "image"),
        "bench-nms": contest_text(NmsRecord.read(records["bench-nms"]), "image"),
        "bench-eval": contest_text(EvaluationRecord.read(records["bench-eval"]), "image"),
    }


def inference_section(record: Mapping[str, Any] | None) -> str:
    """The table of a record of networks; where it was not measured yet, that."""
    return "Not measured yet." if record is None else inference_table(InferenceRecord.read(record))


def speeds() -> str:
    """The chart of the records of networks that there are."""
    paths = [MEASURED / f"{name}.json" for name in INFERENCE]
    return speed_chart([InferenceRecord.read(json.loads(path.read_text())) for path in paths if path.exists()])


def rendered(text: str) -> str:
    """A document with everything between the markers of a table replaced by what the records say."""
    known = tables()

    def render(match: re.Match[str]) -> str:
        return f"{match[1]}{known[match[2]]}\n{match[3]}"

    return re.sub(r"(<!-- ([\w-]+) -->\n).*?(<!-- end \2 -->)", render, text, flags=re.DOTALL)


if __name__ == "__main__":
    CHART.write_text(ablation_chart(AblationRecord.read(json.loads((MEASURED / "ablations.json").read_text()))))
    STRIP.write_text(strip(json.loads((MEASURED / "strip.json").read_text())))
    SPEED.write_text(speeds())
    for name in RENDERED:
        path = REPOSITORY / name
        path.write_text(rendered(path.read_text()))
