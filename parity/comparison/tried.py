"""What became of the known mistakes that explain nothing: how far each was from it, or why it was not tried."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...strict_json import finite
from .records import ComparisonRecord, TriedRow

if TYPE_CHECKING:  # reports are made without PyTorch
    from ...effdet_torch.config import Config
    from ..mistakes.network import Change

EXPLAINS, IN_PART = "explains", "in part"
SMALLER, NO_EFFECT, WORSE = "smaller", "no effect", "worse"
NOT_TRIED = "not tried"
SAME = 0.01  # a figure that changes by less, in proportion, is called the same

Order = Mapping[str, int]  # the place of each layer in the order of computation, by its key


class Place(NamedTuple):
    """Where two computations part first, and by how much."""

    layer: str
    error: float  # max |a - b| / max |b|; not finite where the two cannot be compared


def worth_trying(changes: Sequence["Change"], config: "Config", first: str, order: Order) -> list["Change"]:
    """The changes that can make the difference that begins at the layer `first`: none shows after it."""
    return [each for each in changes if not _obstacle(each, config, first, order)]


def not_tried(changes: Sequence["Change"], config: "Config", first: str, order: Order) -> list[TriedRow]:
    """The others, each with the reason."""
    rows = []
    for change in changes:
        if reason := _obstacle(change, config, first, order):
            rows.append(left_out(change, reason))
    return rows


def left_out(change: "Change", reason: str) -> TriedRow:
    """A change that was not tried, and why."""
    return TriedRow(
        change=change.name, summary=change.summary, side=None, effect=NOT_TRIED, layer=None, error=None, reason=reason
    )


def _obstacle(change: "Change", config: "Config", first: str, order: Order) -> str:
    """Why a change cannot explain a difference at `first`; empty where it can."""
    shows = change.shows(config)
    if shows is None or not change.fits(config):
        return f"{config.name} has no layer that it changes"
    # A change that first shows further on leaves the first difference as it is.
    return f"it shows from {shows} on, after the first difference" if order[shows] > order.get(first, -1) else ""


def outcome(
    change: "Change", side: str, before: Place | None, after: Place | None, order: Order, explained: str = ""
) -> TriedRow:
    """What a change did to the first difference: `before` it was made, and `after`; None where there is none.

    `explained` is `EXPLAINS` or `IN_PART` where the change is one of the explanations.
    """
    return TriedRow(
        change=change.name,
        summary=change.summary,
        side=side,
        effect=explained or _effect(before, after, order),
        layer=after and after.layer,
        error=None if after is None else finite(after.error),
    )


def _effect(before: Place | None, after: Place | None, order: Order) -> str:
    """Of a change that does not move the first difference on."""
    if after is None:
        return SMALLER
    if before is None:
        return WORSE
    moved = order.get(after.layer, -1) - order.get(before.layer, -1)
    if moved:
        return SMALLER if moved > 0 else WORSE
    if after.error == before.error or math.isclose(after.error, before.error, rel_tol=SAME):
        return NO_EFFECT
    return SMALLER if after.error < before.error else WORSE  # what is no number is not smaller


def excluded(record: ComparisonRecord) -> list[TriedRow]:
    """The mistakes that explain nothing on either side, in the order in which they were looked at."""
    helped = {each.change for each in record.explanations}
    return [each for each in record.tried if each.change not in helped]


def excluded_line(record: ComparisonRecord) -> str:
    """How many known mistakes were looked at in vain, in a sentence; empty where none was."""
    rows = excluded(record)
    tried = {each.change for each in rows if each.effect != NOT_TRIED}
    others = len({each.change for each in rows} - tried)
    if not rows:
        return ""
    if record.explanations:
        line = f"{_counted(len(tried), 'other known mistake')} tried and excluded"
    else:
        sides = "either side" if "reference" in {each.side for each in rows} else "effconv's side"
        line = f"not explained: {_counted(len(tried), 'known mistake')} tried, and none of them, made on {sides}, "
        line += "moves the first difference"
        if not tried:
            line = "not explained: no known mistake could be the cause"
    return f"{line}; {others} {'was' if others == 1 else 'were'} not tried." if others else f"{line}."


def _counted(count: int, what: str) -> str:
    return f"{count} {what} was" if count == 1 else f"{count} {what}s were"
