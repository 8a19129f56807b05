"""What the embedded detector scores, as a table."""

from collections.abc import Mapping
from typing import Any

from ..rendering.markdown import markdown_table


def detector_table(training: Mapping[str, Any], official: Mapping[str, Any]) -> str:
    """The embedded detector's metrics, by TensorFlow and by effconv, and what its training took."""
    names = list(official["metrics"])
    rows = [
        [label, *("-" if metrics[name] < 0 else f"{metrics[name]:.3f}" for name in names)]
        for label, metrics in (("TensorFlow", official["metrics"]), ("effconv", official["effconv"]))
    ]
    minutes = training["seconds_of_this_session"] / 60
    lines = [
        markdown_table(["", *names], rows),
        "",
        f"{training['parameters']:,} parameters, {training['steps']:,} steps on {training['images']:,} pictures in "
        f"{minutes:.0f} minutes; the two sides' metrics differ by {official['largest_difference']:.2g} at most.",
    ]
    return "\n".join(lines)
