"""What other projects' networks cost: in AP where they compute something else, in time and in memory, as Markdown."""

from ..ablation.record import AblationRecord
from ..benchmarks.network_records import InferenceRecord, InferenceRow
from ..rendering.markdown import markdown_table
from .records import JudgedNetwork, RefereeRecord

# By the names of the networks in the referee's record, and of the contestants in the benchmark's.
CONTESTANTS = {
    "effdet (timm)": "effdet",
    "zylo117/Yet-Another-EfficientDet-Pytorch": "zylo117",
    "bonlime/pytorch-tools": "pytorch-tools",
}
OURS = "fast"  # what effconv's commands run


def ports_cost_table(referee: RefereeRecord, ablations: AblationRecord, inference: InferenceRecord) -> str:
    """A row per port of the benchmark's model: the function it computes, what that costs, milliseconds and memory."""
    judged = {row.network: row for row in referee.ports if row.model == inference.model}
    heading = ("network", "layers that hold", "cost in AP", *_figures_heading(inference))
    rows = [["effconv", "all", "-", *_figures(inference, OURS)]]
    for network, contestant in CONTESTANTS.items():
        row = judged[network]
        held = f"{row.hold} of {row.layers}"
        rows.append([network, held, _cost(row, ablations), *_figures(inference, contestant)])
    return markdown_table(heading, rows)


def _cost(row: JudgedNetwork, ablations: AblationRecord) -> str:
    """What the mistakes that explain a network do to AP, where the ablations have exactly those."""
    if not row.mistakes:
        return "none: the same function" if row.first_fault is None else "not measured"
    if not row.explained:
        return "not measured"
    name = " + ".join(row.mistakes)
    costs = [each.cost for each in ablations.changed if each.name == name]
    if not costs:
        return "not measured"
    (cost,) = costs
    return f"{cost.difference:+.4f} ({cost.low:+.4f} to {cost.high:+.4f}: {cost.verdict})"


def _rows(inference: InferenceRecord, contestant: str) -> list[InferenceRow]:
    return [row for row in inference.rows if row.contestant == contestant]


def _figures_heading(inference: InferenceRecord) -> list[str]:
    return [f"ms per image and peak memory, batch {row.batch}" for row in _rows(inference, OURS)]


def _figures(inference: InferenceRecord, contestant: str) -> list[str]:
    rows = {row.batch: row for row in _rows(inference, contestant)}
    found = []
    for ours in _rows(inference, OURS):
        row = rows.get(ours.batch)
        found.append("-" if row is None else f"{row.milliseconds_per_image:.0f} ms, {row.peak_megabytes:.0f} MB")
    return found
