"""A training's curves as a picture: losses by step, and AP where it was evaluated."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...convert.output import replacing
from ...convert.output_kinds import PICTURE_MARK
from ..evaluation.coco import UNDEFINED

METRICS = ("AP", "AP50", "AP75", "APs")


def plot_training(
    steps: Sequence[Mapping[str, float]], evaluations: Sequence[Mapping[str, float]], path: Path, title: str
) -> bool:
    """Write a PNG; False where matplotlib is not installed. Losses are averaged over a fiftieth of all steps."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(10, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    numbers = np.array([row["step"] for row in steps])
    width = max(1, len(steps) // 50)
    for name, factor in (("classes", 1.0), ("boxes", 50.0)):
        values = np.array([row[name] for row in steps]) * factor
        smooth = np.convolve(values, np.ones(width) / width, "valid")
        losses.plot(numbers[width - 1 :], smooth, label=f"{name}{' x 50' if factor > 1 else ''}")
    losses.set(xlabel="step", ylabel="loss", yscale="log", title=title)
    losses.legend()
    for name in METRICS:
        measured = [row for row in evaluations if row[name] != UNDEFINED]
        scores.plot([row["steps"] for row in measured], [row[name] for row in measured], marker=".", label=name)
    scores.set(xlabel="step", ylabel="of the moving averages", ylim=(0, 1), title="evaluations")
    scores.legend()
    picture = io.BytesIO()  # a full disk cuts what goes to a file directly, without an error
    canvas.print_png(picture, metadata={"Software": PICTURE_MARK})
    with replacing(path) as (file,):
        file.write_bytes(picture.getvalue())
    return True
