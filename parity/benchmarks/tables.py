"""Records of measurements (`results/measured/`) as the Markdown tables of the README and docs/precision.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..rendering.markdown import markdown_table
from .contest_records import (
    ContestRow,
    EvaluationRecord,
    InputRecord,
    MeasuredContest,
    NmsRecord,
    PredictRecord,
)
from .network_records import AblationCostRecord, InferenceRecord, RooflineRecord, TrainingRecord
from .process_records import ComparisonCostRecord, ConversionRecord, MetricsEnginesRecord

GIGABYTE = 1e9


def conversion_table(record: ConversionRecord) -> str:
    """A conversion benchmark (`effconv bench convert`) as a Markdown table: ratios first, then the medians."""
    rows = []
    for row in record.rows:
        sides = (f"{_figure(side)} {row.unit}" for side in (row.effconv, row.tensorflow))
        rows.append([row.what, *sides, f"{row.ratio:.2f}", row.bar])
    return markdown_table((record.model, "effconv", "TensorFlow", "ratio", "promised"), rows)


def _figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def metrics_engine_table(record: MetricsEnginesRecord) -> str:
    """`effconv bench coco`: each metrics engine's time and memory, and whether all arrays are the same."""
    heading = ("engine", "rounds", "seconds", "times faster", "peak memory", "times smaller")
    rows = []
    for row in record.rows:
        seconds, faster, smaller = (_figure(each) for each in (row.seconds, row.times_faster, row.times_smaller))
        rows.append([row.metrics_engine, row.rounds, seconds, faster, f"{_figure(row.peak_megabytes)} MB", smaller])
    differing = [name for name, same in record.identical.items() if not same]
    verdict = f"**different**: {', '.join(differing)}" if differing else "identical bit for bit in every round"
    counts = f"{record.images:,} images, {record.boxes:,} boxes, {record.crowds:,} crowds"
    text = f"{counts}, {record.detections:,} detections; {', '.join(record.identical)}: {verdict}."
    return "\n".join([markdown_table(heading, rows), "", text])


def comparison_cost(record: ComparisonCostRecord) -> str:
    """`effconv bench parity` in a sentence."""
    promised = record.peak_bytes_promised
    bar = f" (promised: below {promised / GIGABYTE:.0f} GB)" if promised else ""
    height, width = record.image_shape[2:]
    return (
        f"{record.model} at {height}x{width}, both sides: {record.layers} layers compared in "
        f"{record.seconds / 60:.1f} minutes, peak memory {record.peak_bytes / GIGABYTE:.1f} GB{bar}"
    )


def contest_text(record: InputRecord | NmsRecord | EvaluationRecord, item: str) -> str:
    """A benchmark of contestants taking turns: the median per `item`, the result and the conditions."""
    left_out = record.left_out if isinstance(record, NmsRecord) else {}
    lines = [_contest_table(record.contest.rows, item)]
    lines += [f"\nLeft out: {name}: {why}." for name, why in left_out.items()]
    return "\n".join(lines) + f"\n\n{same_work(record)} {contest_conditions(record.command, record.contest)}"


def _contest_table(rows: Sequence[ContestRow], item: str) -> str:
    cells = []
    for row in rows:
        seconds = row.seconds_per_item
        multiple = "1" if row.contestant == row.beside else f"{row.ratio:.2f} of *{row.beside}*"
        cells.append([row.contestant, _figure(seconds * 1e3), _figure(1 / seconds), multiple])
    heading = ("contestant", f"ms per {item}", f"{item}s per second", "time, as a multiple of ours")
    return markdown_table(heading, cells)


def contest_conditions(command: str, contest: MeasuredContest) -> str:
    """What a benchmark of contestants was measured under, in a sentence."""
    provenance, probed = contest.provenance, contest.probe_gflops
    most = max(row.processors_used for row in contest.rows)
    return (
        f"`{command}`: {contest.rounds} rounds on one thread ({most:.1f} processors used at most) of "
        f"{provenance['processor'] or provenance['machine']}, commit {provenance['git_commit'][:7]}; a matrix product "
        f"reached {probed.before:.0f} GFLOP/s before and {probed.after:.0f} after."
    )


def same_work(record: InputRecord | NmsRecord | EvaluationRecord) -> str:
    """How far the two sides of a benchmark came to the same result, in a sentence."""
    if isinstance(record, InputRecord):
        return f"{record.identical_inputs} of {record.images} inputs are identical to TensorFlow's, bit for bit."
    if isinstance(record, NmsRecord):
        return "effconv's and TensorFlow's soft-NMS give the same boxes and scores, bit for bit."
    return (
        f"{record.detections_agreeing:.0%} of effconv's detections on {record.images} images are TensorFlow's "
        f"too; weights: {record.checkpoint}."
    )


def predict_table(record: PredictRecord) -> str:
    """`effconv bench predict`: a row per contestant, times faster than the first peer, and under which conditions."""
    contests = record.by_batch()
    rows = []
    for batch, contest in contests.items():
        for row in contest.rows:
            seconds = row.seconds_per_item
            figures = [f"{1e3 * seconds:.0f}", f"{1 / seconds:.2f}", f"{1 / row.ratio:.2f}"]
            rows.append([batch, row.contestant, *figures])
    first = record.contest
    measured = (each.probe_gflops for each in contests.values())
    probes = [f"{each.before:.0f} GFLOP/s before and {each.after:.0f} after" for each in measured]
    notes = [f"{name}: {note}" for name, note in record.notes.items()]
    notes += [f"left out: {reason}" for reason in dict.fromkeys(record.left_out.values())]  # each once
    if record.seconds_to_begin:
        begun = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in record.seconds_to_begin.items())
        notes.insert(0, f"until the boxes of the first image: {begun}")
    height, width = record.image_size
    lines = [
        markdown_table(("batch", "contestant", "ms per image", "images/s", "times faster"), rows),
        "",
        f"{record.model} at {height}x{width}{_where(first.provenance)}, {record.images} images, "
        f"{record.threads} threads, medians of {first.rounds} turns, times faster than {first.rows[0].beside}; "
        f"matrix product {', '.join(probes)}. {'; '.join(notes)}".rstrip(),
    ]
    return "\n".join(lines)


def _where(provenance: Mapping[str, Any]) -> str:
    """Device and precision, where they are not the CPU and float32."""
    device, precision = provenance["device"], provenance.get("dtype", "float32")
    if (device, precision) == ("cpu", "float32"):
        return ""
    return f" on {provenance.get('device_name', device)} in {precision}"


def inference_table(record: InferenceRecord) -> str:
    """`effconv bench inference`: a row per batch and contestant, and under which conditions."""
    heading = (
        *("batch", "contestant", "ms per image (quartiles)", "images/s", "times faster"),
        *("peak memory", "error", "scope"),
    )
    rows = []
    for row in record.rows:
        low, high = row.quartiles
        error = row.error_beside_the_model
        cells = [row.batch, row.contestant, f"{row.milliseconds_per_image:.1f} ({low:.1f} to {high:.1f})"]
        cells += [f"{row.images_per_second:.1f}", f"{row.times_faster:.2f}", f"{row.peak_megabytes:.0f} MB"]
        rows.append([*cells, "-" if error is None else f"{error:.1e}", row.scope])
    (height, width), counts, probe = record.image_size, record.parameters, record.probe_gflops
    # Contestants that are not ours, and those with a note.
    noted = [(name, each) for name, each in record.contestants.items() if each.note or "PyTorch" not in each.version]
    notes = [f"{name}: {each.version}{', ' if each.note else ''}{each.note}" for name, each in noted]
    notes += [f"left out: {reason}" for reason in dict.fromkeys(record.left_out.values())]  # each once
    lines = [
        markdown_table(heading, rows),
        "",
        f"{record.model} at {height}x{width}{_where(record.provenance)}, "
        f"{counts.encoder / 1e6:.2f} M parameters in the encoder and {counts.decoder / 1e6:.2f} M in the decoder, "
        f"{record.threads} threads, medians of {record.rounds} turns; times faster than {record.rows[0].beside}; "
        f"matrix product {probe.before:.0f} GFLOP/s before and {probe.after:.0f} after. {'; '.join(notes)}.",
    ]
    return "\n".join(lines)


def training_table(record: TrainingRecord) -> str:
    """`effconv bench training`: a row per contestant, and under which conditions."""
    heading = (
        *("contestant", "forward and losses", "backward and update"),
        *("images/s", "times faster", "peak memory", "loss"),
    )
    rows = [
        [
            row.contestant,
            f"{row.forward_milliseconds:.0f} ms",
            f"{row.backward_milliseconds:.0f} ms",
            f"{row.images_per_second:.2f}",
            f"{row.times_faster:.2f}",
            f"{row.peak_megabytes:.0f} MB",
            f"{row.loss:.4f}",
        ]
        for row in record.rows
    ]
    height, width = record.image_size
    lines = [
        markdown_table(heading, rows),
        "",
        f"{record.model} at {height}x{width}, batch {record.batch}, {record.provenance['dtype']}, "
        f"{record.threads} threads, {record.provenance['device']}, medians of {record.rounds} turns.",
    ]
    lines += [f"Left out: {reason}." for reason in record.left_out.values()]
    return "\n".join(lines)


def ablation_cost(record: AblationCostRecord) -> str:
    """`effconv bench ablation` in a sentence."""
    seconds, (height, width) = record.seconds_per_image, record.image_size
    return (
        f"{record.model} at {height}x{width}, {record.ablation} over "
        f"{record.images} kept images: {1e3 * seconds.decoding:.2f} ms an image beside "
        f"{1e3 * seconds.network:.0f} ms of the network, {100 * record.share:.2f} % "
        f"(promised: below {100 * record.promised:.0f} %)"
    )


def roofline_text(record: RooflineRecord) -> str:
    """`effconv bench roofline`: the work, the time beside the ceilings, and the most expensive operators."""
    seconds, (height, width), ceilings = record.seconds, record.image_size, record.ceilings
    lines = [
        f"{record.model} at {height}x{width}: {record.work.multiply_adds / 1e9:.2f} G multiply-adds, "
        f"{record.work.bytes_moved / 1e6:.0f} MB through memory at least",
        f"{record.engine} on {record.threads} threads takes {1e3 * seconds.taken:.1f} ms; at "
        f"{ceilings.gflops:.0f} GFLOP/s arithmetic alone takes {1e3 * seconds.arithmetic:.1f} ms, at "
        f"{ceilings.copied_gigabytes_per_second:.1f} GB/s memory alone {1e3 * seconds.memory:.1f} ms: "
        f"{100 * record.fraction:.0f} % of what is possible",
        *(f"  {100 * share:4.0f} %  {name}" for name, share in record.operators.items()),
    ]
    return "\n".join(lines)
