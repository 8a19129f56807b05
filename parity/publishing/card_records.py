"""What records say, as a model card states it: each figure with its conditions, and what nothing was said of."""

from collections.abc import Sequence

from ..comparison.end_to_end_record import EndToEndRecord
from ..comparison.engine_record import EngineRecord, engine_lines
from ..comparison.records import ComparisonRecord
from ..evaluation.coco import METRICS
from ..evaluation.published_rows import CONDITIONS
from ..evaluation.report import METRIC_NAMES, figure
from ..rendering.markdown import markdown_table
from .evidence import EvaluationFigures, ParityRecord
from .markdown_text import as_text
from .weights import Published


def parity_text(record: ParityRecord) -> str:
    """One comparison: its verdict, what with what, on what."""
    if isinstance(record, EngineRecord):
        head = f"**{_held(record.ok)}**: {as_text(engine_lines(record)[0])}."
        lines = [
            f"the network run by {as_text(record.engine)}, beside this model in float64 (not beside the official code)",
            f"images: {as_text(record.images)}; batches {as_text(', '.join(record.cases))}",
        ]
    elif isinstance(record, EndToEndRecord):
        row, found = record.row, record.row.found
        head = f"**{_held(found.ok)}**: {as_text(found.verdict)}."
        lines = [
            f"from an image's bytes to its detections, beside {as_text(row.reference.label)}",
            f"images: {found.images}; {found.matched} of {found.detections} detections matched one to one",
            f"largest differences of the matched: score {found.largest_score_gap:.2g}, box "
            f"{found.largest_box_gap:.2g} of its longer side",
        ]
        lines += [f"{as_text(name)}: holds for {each.held} of {each.of} images" for name, each in found.stages.items()]
    else:
        head = f"**{_held(record.ok)}**: {as_text(record.verdict)}."
        lines = _layers(record)
    made = record.provenance.get("effconv")
    return "\n".join([head, "", *(f"- {line}" for line in [*lines, f"effconv {as_text(made)}"])])


def _held(ok: bool) -> str:
    return "Holds" if ok else "Does not hold"


def _layers(record: ComparisonRecord) -> list[str]:
    compared = [row for row in record.rows if row.checks or not row.ok]  # a reference may lack layers
    lines = [
        f"layer by layer, beside {as_text(record.reference.label)}",
        f"images: {as_text(record.images.label)}, {' x '.join(map(str, record.images.shape))}",
        f"layers within their limits: {sum(row.ok for row in compared)} of {len(compared)} that the reference has, "
        f"of {len(record.rows)}",
    ]
    checks = dict.fromkeys(name for row in record.rows for name in row.checks)
    for name in checks:
        errors = [row.checks[name].error for row in record.rows if name in row.checks]
        known = [error for error in errors if error is not None]
        if known and len(known) == len(errors):
            lines.append(f"largest difference, {as_text(name)}: {max(known):.2g} of the layer's largest value")
    if missed := sum(each.weights for each in record.unexercised):
        lines.append(f"weights that no output depends on, of these images: {missed}")
    if record.tensors:
        lines.append(f"tensors compared by name: {record.tensors.compared}, different: {len(record.tensors.differ)}")
    return lines


def evaluation_text(record: EvaluationFigures) -> str:
    """COCO metrics, and what they were measured under."""
    dataset, total = record.dataset, record.dataset.images_in_all
    images = f"all {total} images" if record.images == total else f"{record.images} of {total} images"
    lines = [
        f"dataset: {as_text(dataset.annotations)} (sha256 {as_text(dataset.sha256)}), {images}",
        "pipeline: "
        + as_text(", ".join(f"{name} {record.conditions[name]}" for name in CONDITIONS if name in record.conditions)),
        f"network run by: {as_text(record.network_engine)}, effconv {as_text(record.provenance.get('effconv'))}",
    ]
    if record.skipped:
        lines.append(f"images that could not be read, and count as without detections: {len(record.skipped)}")
    lines.append("no interval: the record has none")
    rows = [(METRIC_NAMES[name], figure(record.metrics[name])) for name in METRICS if name in record.metrics]
    return "\n".join([markdown_table(("metric", "value"), rows), "", *(f"- {line}" for line in lines)])


def unverified(
    weights: Published, compared: Sequence[ParityRecord], evaluated: Sequence[EvaluationFigures]
) -> list[str]:
    """What a reader might take for granted, and no record says."""
    official = [each for each in compared if not isinstance(each, EngineRecord)]
    lines = []
    if not official:
        lines.append("That these weights compute what the official code computes: no comparison with it was given.")
    elif not all(each.row.found.ok if isinstance(each, EndToEndRecord) else each.ok for each in official):
        lines.append("That these weights compute what the official code computes: a comparison above does not hold.")
    else:
        lines.append("Images, sizes and machines other than those of the comparisons above.")
    if not evaluated:
        lines.append("How well the model detects: no evaluation was given.")
    elif any(each.images < each.dataset.images_in_all for each in evaluated):
        lines.append("Metrics of a whole dataset, where a part was evaluated: they compare with no published figure.")
    if not weights.release:
        lines.append("That the weights are a released checkpoint's: their values are of none that effconv knows.")
    if weights.manifest is None:
        lines.append("Where the weights come from.")
    elif not weights.manifest["source"].get("checksums_verified"):
        lines.append("The checksums of what the weights were made from: there were none, or they were not checked.")
    return lines
