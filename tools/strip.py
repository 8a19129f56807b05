"""The README's picture, drawn from the record of `tools/record_strip.py`.

A row per picture: ground truth, TensorFlow's detections, effconv's, and how far the two are apart. Below, every layer's
difference along the network.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from effconv.effdet_torch.drawing import text_colour
from effconv.effdet_torch.name_colours import name_colour
from effconv.errors import EffconvError

WIDTH, GAP, MARGIN = 800, 10, 8  # pixels, of the whole and between its columns
TOP = 44  # of the first row of pictures, below the columns' names
FONT, SMALL = 12, 10.5
CHARACTER = 0.6  # a character's width by the text's height, on average at most
MAGNIFIED = 1_000_000
COLUMNS = ("ground truth", "TensorFlow", "effconv", f"difference x {MAGNIFIED:,}")
CHART_HEIGHT, CHART_LEFT = 130, 48
LOWEST, HIGHEST = -17, -3  # powers of ten
INK, GREY, PALE = "#111827", "#6b7280", "#e5e7eb"
FLOAT32, FLOAT64, ALLOWED = "#b45309", "#1f5fa8", "#b91c1c"

Record = Mapping[str, Any]


class Rectangle(NamedTuple):
    """In pixels of the drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Rectangle") -> bool:
        """Whether the two share a point."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


class Labelled(NamedTuple):
    """A box in pixels of the picture, the name whose colour it has, and its label."""

    box: Sequence[float]
    name: str
    label: str


def strip(record: Record) -> str:
    """The record as SVG; the same text each time. Raises EffconvError where it is of other objects on either side."""
    if not all(picture["same_objects"] for picture in record["pictures"]):
        raise EffconvError("strip.json: the two sides find other objects, which this picture has no words for")
    column = (WIDTH - 2 * MARGIN - 3 * GAP) / 4
    parts, top = [_column_names(record, column)], float(TOP)
    for number, picture in enumerate(record["pictures"]):
        scale = column / picture["width"]
        height = picture["height"] * scale
        parts.append(_picture(record, picture, number, top, column, height, scale))
        top += height + GAP
    parts.append(_caption(record, top + 8))
    parts.append(_chart(record["layers"], top + 46))
    total = round(top + 46 + CHART_HEIGHT + 30)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
        f'font-family="sans-serif" font-size="{FONT}" fill="{INK}">\n'
        f'<rect width="{WIDTH}" height="{total}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def largest_differences(record: Record) -> tuple[float, float]:
    """Of a coordinate in pixels, and of a score, over all objects that both sides found."""
    pairs = [pair for picture in record["pictures"] for pair in _pairs(picture)]
    scores = (abs(one["score"] - other["score"]) for one, other in pairs)
    return max(_apart(one, other) for one, other in pairs), max(scores)


def _pairs(picture: Record) -> list[tuple[Record, Record]]:
    """The objects of both, TensorFlow's first."""
    return [(picture["tensorflow"][one], picture["effconv"][other]) for one, other in picture["pairs"]]


def _apart(one: Record, other: Record) -> float:
    """The largest difference of a coordinate, in pixels."""
    return max(abs(a - b) for a, b in zip(one["box"], other["box"], strict=True))


def _left(place: int, column: float) -> float:
    return MARGIN + place * (column + GAP)


def _column_names(record: Record, column: float) -> str:
    shown = f"score {record['least_score']:g} or more"
    below = ("what was drawn", shown, shown, "grey TensorFlow's, red effconv's")
    parts = []
    for place, (name, text) in enumerate(zip(COLUMNS, below, strict=True)):
        x = _left(place, column)
        parts.append(_text(x, 18, name, weight="bold", size=14))
        parts.append(_text(x, 35, text, fill=GREY, size=SMALL))
    return "\n".join(parts)


def _picture(
    record: Record, picture: Record, number: int, top: float, column: float, height: float, scale: float
) -> str:
    """One row. The picture's own file is embedded once."""
    names = record["categories"]

    def named(objects: Iterable[Record]) -> list[Labelled]:
        return [
            Labelled(
                each["box"],
                names[str(each["category"])],
                names[str(each["category"])] + (f" {each['score']:.2f}" if "score" in each else ""),
            )
            for each in objects
        ]

    kinds = ("truth", "tensorflow", "effconv")
    parts = [
        f'<defs><image id="picture{number}" width="{column:.1f}" height="{height:.1f}" '
        f'href="data:image/jpeg;base64,{picture["jpeg"]}"/></defs>'
    ]
    for place, kind in enumerate(kinds):
        inside = f'<use href="#picture{number}"/>\n' + _boxes(named(picture[kind]), column, height, scale)
        parts.append(_panel(_left(place, column), top, column, height, inside))
    parts.append(_panel(_left(3, column), top, column, height, _difference(picture, column, height, scale)))
    return "\n".join(parts)


def _panel(left: float, top: float, width: float, height: float, inside: str) -> str:
    """An SVG of its own, so that nothing reaches beyond it."""
    return f'<svg x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}">\n{inside}\n</svg>'


def _boxes(objects: Sequence[Labelled], width: float, height: float, scale: float) -> str:
    drawn, labels = [], []
    for each in objects:
        red, green, blue = name_colour(each.name)
        drawn.append(_outline([value * scale for value in each.box], f"#{red:02x}{green:02x}{blue:02x}", 2))
    taken: list[Rectangle] = []
    for each in objects:
        place = _place([value * scale for value in each.box], each.label, taken, width, height)
        taken.append(place)
        red, green, blue = name_colour(each.name)
        ink = "#{:02x}{:02x}{:02x}".format(*text_colour((red, green, blue)))
        labels.append(_label(place, each.label, f"#{red:02x}{green:02x}{blue:02x}", ink))
    return "\n".join(drawn + labels)


def _difference(picture: Record, width: float, height: float, scale: float) -> str:
    """TensorFlow's boxes in grey, effconv's where they would be were the distance MAGNIFIED times what it is."""
    parts = [f'<rect width="{width:.1f}" height="{height:.1f}" fill="#f3f4f6"/>']
    taken: list[Rectangle] = []
    for one, other in _pairs(picture):
        moved = [a + (b - a) * MAGNIFIED for a, b in zip(one["box"], other["box"], strict=True)]
        parts.append(_outline([value * scale for value in one["box"]], GREY, 1))
        parts.append(_outline([value * scale for value in moved], ALLOWED, 1.5))
    for one, other in _pairs(picture):
        apart = _apart(one, other)
        text = f"{apart:.6f} px" if apart else "0 px"
        place = _place([value * scale for value in one["box"]], text, taken, width, height)
        taken.append(place)
        parts.append(_label(place, text, "#ffffff", INK))
    return "\n".join(parts)


def _place(box: Sequence[float], text: str, taken: Sequence[Rectangle], width: float, height: float) -> Rectangle:
    """Where a label goes: near its box, inside the panel, and on no other label where there is such a place."""
    wide, high = len(text) * SMALL * CHARACTER + 4, SMALL + 4
    lefts = (box[0], box[2] - wide, (box[0] + box[2] - wide) / 2)
    tops = (box[1] - high, box[1], box[3], box[3] - high, (box[1] + box[3] - high) / 2)
    places = [
        Rectangle(x, y, x + wide, y + high)
        for x, y in (
            (min(max(left, 0), width - wide), min(max(top, 0), height - high)) for top in tops for left in lefts
        )
    ]
    return next((each for each in places if not any(each.meets(other) for other in taken)), places[0])


def _outline(box: Sequence[float], colour: str, line: float) -> str:
    left, top, right, bottom = box
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0):.1f}" height="{max(bottom - top, 0):.1f}" '
        f'fill="none" stroke="{colour}" stroke-width="{line:g}"/>'
    )


def _label(place: Rectangle, text: str, background: str, ink: str) -> str:
    return (
        f'<rect x="{place.left:.1f}" y="{place.top:.1f}" width="{place.right - place.left:.1f}" '
        f'height="{place.bottom - place.top:.1f}" fill="{background}"/>'
        + _text(place.left + 2, place.bottom - 4, text, fill=ink, size=SMALL)
    )


def _text(
    x: float, y: float, text: str, *, fill: str = INK, size: float = FONT, weight: str = "normal", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size:g}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _caption(record: Record, y: float) -> str:
    pixels, score = largest_differences(record)
    found = sum(len(picture["pairs"]) for picture in record["pictures"])
    text = f"Both find the same {found} objects. Largest difference: {pixels:.6f} pixels, {score:.7f} of a score."
    return _text(MARGIN, y + 4, text, weight="bold")


def _chart(layers: Sequence[Record], top: float) -> str:
    """Every layer's largest difference, relative to its largest value, in both precisions, on a logarithmic scale."""
    right, bottom = WIDTH - MARGIN, top + CHART_HEIGHT

    def height(value: float) -> float:
        power = math.log10(value) if value > 0 else LOWEST
        return bottom - (min(max(power, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST) * CHART_HEIGHT

    def across(place: int) -> float:
        return CHART_LEFT + place / (len(layers) - 1) * (right - CHART_LEFT)

    title = f"Difference of each of the {len(layers)} layers from TensorFlow's, relative to its largest value"
    parts = [_text(MARGIN, top - 8, title, fill=INK)]
    for power in range(LOWEST + 2, HIGHEST, 3):
        y = height(10.0**power)
        parts.append(f'<path d="M{CHART_LEFT} {y:.1f}H{right}" stroke="{PALE}"/>')
        parts.append(_text(CHART_LEFT - 6, y + 4, f"1e{power}", fill=GREY, size=SMALL, anchor="end"))
    allowed = max(row["allowed"] for row in layers)
    parts.append(f'<path d="M{CHART_LEFT} {height(allowed):.1f}H{right}" stroke="{ALLOWED}" stroke-dasharray="5 4"/>')
    for kind, colour in (("float32", FLOAT32), ("float64", FLOAT64)):
        points = " ".join(f"{across(place):.1f},{height(row[kind]):.1f}" for place, row in enumerate(layers))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
    worst = {kind: max(row[kind] for row in layers) for kind in ("float32", "float64")}
    for text, value, colour in (
        (f"float32: at most {worst['float32']:.0e}", worst["float32"] * 4, FLOAT32),
        (f"allowed in float64: {allowed:.0e}", allowed, ALLOWED),
        (f"float64: at most {worst['float64']:.0e}", worst["float64"], FLOAT64),
    ):
        parts.append(_text(CHART_LEFT + 6, height(value) - 5, text, fill=colour, size=SMALL))
    parts += _parts_of_the_network(layers, across, top, bottom)
    return "\n".join(parts)


def _parts_of_the_network(layers: Sequence[Record], across: Any, top: float, bottom: float) -> list[str]:
    """Their names below the chart, each where its layers begin."""
    found, before = [], ""
    for place, row in enumerate(layers):
        name = row["layer"].partition(".")[0]
        if name != before:
            found.append(f'<path d="M{across(place):.1f} {top:.1f}V{bottom + 16:.1f}" stroke="{PALE}"/>')
            found.append(_text(across(place) + 4, bottom + 14, name.replace("_", " "), fill=GREY, size=SMALL))
            before = name
    return found
