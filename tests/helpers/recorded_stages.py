"""Measured comparisons of ports' stages, and one that holds."""

import json
from dataclasses import replace
from pathlib import Path

from effconv.parity.referee.compare_stages import StageComparison
from effconv.parity.referee.stage_records import PortStagesRecord
from effconv.parity.referee.stages_job import StagesRecord

PATH = Path(__file__).parents[2] / "results" / "measured" / "ports-stages.json"
MEASURED = PortStagesRecord.read(json.loads(PATH.read_text(encoding="utf-8"))).comparisons
HOLDING = replace(
    MEASURED[0],
    rows=tuple(
        replace(row, there=True, differs=0.0, ok=True, why=(), left=None, unlike="") for row in MEASURED[0].rows
    ),
)


def record_of(found: StageComparison) -> StagesRecord:
    """What the command would have recorded of a comparison."""
    made = {"command": "effconv parity --port effdet --end-to-end", "effconv": "0.1.0"}
    return StagesRecord(ok=found.ok, verdict=found.verdict, found=found, provenance=made)
