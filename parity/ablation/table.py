"""Records of ablations as text and Markdown."""

from collections.abc import Mapping
from typing import Any

from ..evaluation.published_rows import find_published
from ..rendering.markdown import markdown_table
from .record import AblationRecord, AblationRow
from .versus import VersusRecord

SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "ARs")
SOURCE = "pytorch-tools"
# What a published variant of these notes is to be read against: they come from two baselines.
LATER, BASELINES = "at the .392 baseline", ("B1 baseline", "B1 at the .392 baseline, own anchors")


def ablation_line(row: AblationRow) -> str:
    """One row as a line: AP, its difference with the interval, and the verdict."""
    text = f"{row.name:24} AP {row.metrics['AP']:.4f}"
    if row.stage is None:
        return text
    cost = row.cost
    return f"{text}  {cost.difference:+.4f} [{cost.low:+.4f}, {cost.high:+.4f}]  {cost.verdict}"


def ablation_table(record: AblationRecord) -> str:
    """A row per ablation, the costliest first within its stage, published rows beside those they can be told by."""
    heading = (
        *("change", "stage", *SHOWN, "difference of AP", "95 % interval", "verdict"),
        *("images/s, network", "published"),
    )
    rows = []
    for row in [record.baseline, *sorted(record.changed, key=lambda row: (row.stage or "", row.cost.difference))]:
        figures = [_figure(row.metrics[name]) for name in SHOWN]
        compared = ["-", "-", "-"]
        if row.stage:
            interval = f"{row.cost.low:+.4f} to {row.cost.high:+.4f}"
            compared = [f"{row.cost.difference:+.4f}", interval, row.cost.verdict]
        speed = f"{1 / row.network_seconds_per_image:.0f}"
        published = "; ".join(_published(variant) for variant in row.published) or "-"
        rows.append([row.name, row.stage or "-", *figures, *compared, speed, published])
    return markdown_table(heading, rows)


def coverage_table(record: Mapping[str, Any]) -> str:
    """A row per number of images: how often two detectors that differ by chance alone are told apart, in percent."""
    names = ("AP", "AP50", "APs")
    heading = (
        *("images", "trials", *(f"{name}: interval excludes 0" for name in names), "any metric, at most"),
        *(*(f"{name}: verdict" for name in names), "any metric, at most"),
    )
    rows = []
    for row in record["rows"]:
        cells = [
            f"{value:.1%}"
            for kind in ("interval", "verdict")
            for value in (*(row[kind][name] for name in names), max(row[kind].values()))
        ]
        rows.append([row["images"], row["trials"], *cells])
    return markdown_table(heading, rows)


PARTS_SHOWN = 5  # categories and images on a terminal; --json has all


def versus_lines(record: VersusRecord) -> list[str]:
    """Two files of detections beside each other, as text."""
    ap = record.metrics[0]
    lines = [
        f"{record.first} beside {record.second} on {record.images} images: AP {ap.first:.4f} and {ap.second:.4f}, "
        f"{ap.difference:+.4f}: {ap.verdict}",
        f"  {'metric':8} {'first':>8} {'second':>8} {'difference':>11}  {'95 % interval':20} verdict",
    ]
    for each in record.metrics:
        figures = f"{_plain(each.first):>8} {_plain(each.second):>8} {each.difference:>+11.4f}"
        lines.append(f"  {each.metric:8} {figures}  {each.low:+.4f} to {each.high:+.4f}   {each.verdict}")
    for what, parts in (("categories", record.categories), ("images", record.by_image)):
        losing = [part for part in parts[:PARTS_SHOWN] if part.difference < 0]
        if losing:
            lines.append(f"{what} where {record.first} loses most, by AP:")
            lines += [f"  {part.difference:+.4f}  {part.name} ({part.first:.3f}, {part.second:.3f})" for part in losing]
    return lines


def versus_waterfall_lines(record: VersusRecord) -> list[str]:
    """The steps from the second file to the first, as text: AP after each, and what it adds with its interval."""
    whole = record.metrics[0]
    lines = [
        f"from {record.second} to {record.first}, step by step: {record.second} is given what {record.first} has",
        f"{record.second:24} AP {_plain(whole.second)}",
    ]
    for step in record.waterfall:
        ap = step.metrics[0]
        what = f"a mistake in {record.first}: {step.summary}" if step.kind == "mistake" else step.summary
        figures = f"AP {_plain(ap.first)}  {ap.difference:+.4f} [{ap.low:+.4f}, {ap.high:+.4f}]  {ap.verdict}"
        lines.append(f"  {step.name:22} {figures}: {what}")
    lines.append(f"{'all of them':24} AP {_plain(whole.first)}  {whole.difference:+.4f}")
    if any(step.kind == "mistake" for step in record.waterfall):
        lines.append(f"first of all, write {record.first} anew without its mistakes")
    return lines


def _plain(value: float) -> str:
    return "-" if value < 0 else f"{value:.4f}"


def _figure(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"


def _published(variant: str) -> str:
    records = {each.details.get("variant"): each for each in find_published(None, SOURCE, None, False) if each.metrics}
    if variant not in records:
        return variant
    found, baseline = (records[name].metrics["AP"] for name in (variant, BASELINES[LATER in variant]))
    return f"{variant}: AP {found:.3f}, its baseline {baseline:.3f}"
