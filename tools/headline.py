"""The figures that matter most, as the README's table: each from the record of the command beside it."""

from collections.abc import Mapping
from typing import Any

from effconv.parity.benchmarks.contest_records import InputRecord, PredictRecord
from effconv.parity.benchmarks.network_records import InferenceRecord
from effconv.parity.benchmarks.process_records import ConversionRecord
from effconv.parity.comparison.measured_records import ProvenModels
from effconv.parity.referee.records import RefereeRecord
from effconv.parity.rendering.markdown import markdown_table

BESIDE_TENSORFLOW = "candidate beside reference"  # live, as `parity.json` calls it


def headline_table(records: Mapping[str, Any]) -> str:
    """A row per figure: what was measured, what came of it, and the command that measures it again.

    `records` are those of results/measured/ by name, as JSON has them.
    """
    rows = [
        _layers(ProvenModels.read(records["parity"])),
        _faults(records["faults"]),
        _inputs(InputRecord.read(records["bench-input"])),
        _metrics(records["shapes-official"]),
        _ports(RefereeRecord.read(records["referee"])),
        _conversion(ConversionRecord.read(records["convert-d0"])),
        _network(InferenceRecord.read(records["bench-inference-d0"])),
        _whole_way(PredictRecord.read(records["bench-predict-d0"])),
    ]
    return markdown_table(("measured", "figure", "again by"), rows)


def _layers(record: ProvenModels) -> list[str]:
    summaries = [row.comparisons[BESIDE_TENSORFLOW] for row in record.rows]
    held, layers = sum(each.layers_that_hold for each in summaries), sum(each.layers for each in summaries)
    worst = max(each.checks["float64 accumulated"].worst_error for each in summaries)
    what = f"layers equal to TensorFlow's, of {len({row.model for row in record.rows})} models"
    return [what, f"{held:,} of {layers:,}, at most {worst:.0e} apart in float64", "`effconv parity --layerwise`"]


def _faults(record: Mapping[str, Any]) -> list[str]:
    rows, runs = record["rows"], record["clean_runs"]
    named = sum(row["named"] == row["planted_in"] for row in rows)
    alarms = sum(run["false_alarm"] is not None for run in runs)
    figure = f"{named} of {len(rows)}, {alarms} false alarms in {len(runs)} clean runs"
    return ["faults planted in one layer, found and named", figure, "`effconv parity --explain`"]


def _inputs(record: InputRecord) -> list[str]:
    figure = f"{record.identical_inputs} of {record.images}"
    return ["photographs whose input is TensorFlow's bit for bit", figure, "`effconv bench input`"]


def _metrics(record: Mapping[str, Any]) -> list[str]:
    figure = f"{record['largest_difference']:.0e} at most"
    return ["COCO metrics of a small detector, TensorFlow's and effconv's, apart", figure, "`effconv demo`"]


def _ports(record: RefereeRecord) -> list[str]:
    # As effconv converts weights for them.
    networks = {row.network for row in record.ports if "," not in row.network}
    same = networks - {row.network for row in record.ports if row.first_fault is not None}
    figure = f"{len(same)} of {len(networks)}"
    return ["other projects' networks that compute Google's function", figure, "`effconv parity --port effdet`"]


def _conversion(record: ConversionRecord) -> list[str]:
    ratios = {row.what: row.ratio for row in record.rows}
    figure = f"{ratios['whole command']:.1f} times faster, {ratios['peak memory']:.2f} of the memory"
    return ["converting D0, against TensorFlow and torch.save", figure, "`effconv bench convert`"]


def _network(record: InferenceRecord) -> list[str]:
    by_batch = {row.batch: row.times_faster for row in record.rows if row.contestant == "fast"}
    figure = ", ".join(f"{times:.2f} times faster at batch {batch}" for batch, times in sorted(by_batch.items()))
    return ["D0's network on two processors, against effdet", figure, "`effconv bench inference --peers effdet`"]


def _whole_way(record: PredictRecord) -> list[str]:
    times = {}
    for batch, contest in record.by_batch().items():
        seconds = {row.contestant: row.seconds_per_item for row in contest.rows}
        times[int(batch)] = seconds["effdet, hard NMS"] / seconds["effconv, fast"]
    figure = ", ".join(f"{ratio:.2f} times faster at batch {batch}" for batch, ratio in sorted(times.items()))
    return ["D0 from an image's bytes to boxes, against effdet", figure, "`effconv bench predict --peers effdet`"]
