"""Records of evaluations as Markdown tables for the documentation."""

from collections.abc import Mapping
from typing import Any


def end_to_end_table(record: Mapping[str, Any]) -> str:
    """A row per model: how many images hold at each stage, and how the final lists compare."""
    lines = [
        "| model | images | input identical | same candidates of the same outputs | same detections of the "
        "same outputs | same objects in the same order, from the bytes on | explained | unexplained | detections "
        "matched one to one |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        stages, lists = row["stages"], row["lists"]
        lines.append(
            f"| {row['model']} | {row['images']} | {stages['input']} | {stages['decoded boxes']} | "
            f"{stages['detections']} | {lists['identical']} | {lists['explained']} | {lists['unexplained']} | "
            f"{row['matched']} of {row['detections']} |"
        )
    return "\n".join(lines)


def detector_table(training: Mapping[str, Any], official: Mapping[str, Any]) -> str:
    """The embedded detector's metrics, by TensorFlow and by effconv, and what its training took."""
    names = list(official["metrics"])
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for label, metrics in (("TensorFlow", official["metrics"]), ("effconv", official["effconv"])):
        lines.append(
            f"| {label} | {' | '.join('-' if metrics[name] < 0 else f'{metrics[name]:.3f}' for name in names)} |"
        )
    minutes = training["seconds_of_this_session"] / 60
    lines += [
        "",
        f"{training['parameters']:,} parameters, {training['steps']:,} steps on {training['images']:,} pictures in "
        f"{minutes:.0f} minutes; the two sides' metrics differ by {official['largest_difference']:.2g} at most.",
    ]
    return "\n".join(lines)


def network_engine_table(record: Mapping[str, Any]) -> str:
    """Engines and precisions: the error of their outputs, and what becomes of the embedded detector's AP."""
    size, count = record["image_size"], record["images"]
    lines = [
        f"| engine | precision | error of outputs, {record['model']} at {size[0]}x{size[1]} | limit | AP of "
        f"{record['detector']} on {count} pictures | difference (95 % interval) |",
        "|---" * 6 + "|",
    ]
    for row in record["rows"]:
        low, high = row["interval"]
        limit = f"{row['limit']:.1e}" if "limit" in row else "-"
        lines.append(
            f"| {row['engine']} | {row['precision']} | {row['error']:.1e} | {limit} | {row['AP']:.4f} | "
            f"{row['difference']:+.4f} ({low:+.4f} to {high:+.4f}) |"
        )
    return "\n".join([*lines, *(f"\nLeft out: {reason}." for reason in record["left_out"].values())])
