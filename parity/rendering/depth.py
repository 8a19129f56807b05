"""Errors over a network's depth as a small chart of SVG, to be part of a page without scripts."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 1000, 300  # of the drawing's own units; the page stretches it
MOST_TICKS = 6


class Curve(NamedTuple):
    """A curve's name, its pen (classes of the style sheet), and a figure for every layer; None where there is none."""

    name: str
    pen: str
    values: Sequence[float | None]


def depth_chart(title: str, curves: Sequence[Curve]) -> str:
    """Curves over the layers in order of execution, on a logarithmic axis. Exact zeros are on its lowest line."""
    positive = [math.log10(value) for curve in curves for value in curve.values if value]
    low, high = (math.floor(min(positive)) - 1, math.ceil(max(positive))) if positive else (-1, 0)
    step = -(-(high - low) // MOST_TICKS)
    ticks = [(low, "0"), *((exponent, f"1e{exponent}") for exponent in range(low + step, high + 1, step))]
    lines = "".join(_grid(1 - (at - low) / (high - low), text) for at, text in ticks)
    drawn = "".join(
        f'<path class="{curve.pen}" vector-effect="non-scaling-stroke" d="{_path(curve.values, low, high)}"/>'
        for curve in curves
    )
    names = "".join(
        f'<span><svg width="26" height="10" aria-hidden="true"><line x1="0" x2="26" y1="5" y2="5" class="{curve.pen}"/>'
        f"</svg>{escape(curve.name)}</span>"
        for curve in curves
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><div class="legend">{names}</div><div class="depth">{lines}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">'
        f"{drawn}</svg></div></figure>"
    )


def _grid(down: float, text: str) -> str:
    return f'<span class="tick" style="top:{100 * down:.1f}%">{text}</span>'


def _path(values: Sequence[float | None], low: int, high: int) -> str:
    steps, gap = [], True
    for place, value in enumerate(values):
        if value is None:
            gap = True
            continue
        height = low if value == 0 else math.log10(value)
        x, y = WIDTH * place / max(1, len(values) - 1), HEIGHT * (1 - (height - low) / (high - low))
        steps.append(f"{'M' if gap else 'L'}{x:.0f} {y:.0f}")
        gap = False
    return "".join(steps)
