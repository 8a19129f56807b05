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
        stages, lists = {name: outcome["held"] for name, outcome in row["stages"].items()}, row["lists"]
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
