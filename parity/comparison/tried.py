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
HELPS_LESS = "helps less"  # it moves the first difference on, another change further
SMALLER, NO_EFFECT, WORSE = "smaller", "no effect", "worse"
NOT_TRIED = "not tried"
NOTHING_LEFT = "nothing was left to explain"
# Why no mistake at all was tried of another network: no layer differs from ours where it is given our values.
FLOAT32_ALONE = (
    "in float64 no layer differs, so the cause is in float32 alone (precision or a kernel), no known mistake"
)
NOT_FOUND = "every layer that was found holds, and no known mistake explains one that was not"
NONE_BY_ITSELF = "no layer differs where it is given effconv's values before it, so no known mistake shows"
BEYOND = (FLOAT32_ALONE, NOT_FOUND, NONE_BY_ITSELF)
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
    """Of a change that is none of the explanations."""
    if after is None:
        return HELPS_LESS
    if before is None:
        return WORSE
    moved = order.get(after.layer, -1) - order.get(before.layer, -1)
    if moved:
        return HELPS_LESS if moved > 0 else WORSE
    if after.error == before.error or math.isclose(after.error, before.error, rel_tol=SAME):
        return NO_EFFECT
    return SMALLER if after.error < before.error else WORSE  # what is no number is not smaller


def unhelpful(record: ComparisonRecord) -> list[TriedRow]:
    """The mistakes that are no explanation on either side, in the order in which they were looked at."""
    helped = {each.change for each in record.explanations}
    return [each for each in record.tried if each.change not in helped]


def excluded_line(record: ComparisonRecord) -> str:
    """How many known mistakes were looked at in vain, in a sentence; empty where none was."""
    rows = unhelpful(record)
    if not rows:
        return ""
    tried = {each.change for each in rows if each.effect != NOT_TRIED}
    others = len({each.change for each in rows} - tried)
    if not tried:
        return _nothing_tried(record, rows, others)
    if record.explanations:
        less = {each.change for each in rows if each.effect == HELPS_LESS}
        counts = [f"{_counted(len(tried - less), 'other known mistake')} tried and excluded"] if tried - less else []
        if less:
            counts.append(f"{_counted(len(less), 'other known mistake')} tried and would help less")
        line = "; ".join(counts)
    else:
        sides = {each.side for each in rows if each.effect != NOT_TRIED}
        # On one side alone it is always effconv's network that is changed, whichever of the two that is.
        made = "either side" if len(sides) > 1 else "effconv's side"
        line = f"not explained: {_counted(len(tried), 'known mistake')} tried, and none of them, made on {made}, "
        line += "moves the first difference"
    return f"{line}; {others} {'was' if others == 1 else 'were'} not tried." if others else f"{line}."


def _nothing_tried(record: ComparisonRecord, rows: Sequence[TriedRow], count: int) -> str:
    """The sentence where no mistake was tried but those that explain something."""
    if record.explanations:
        whole = any(each.explains for each in record.explanations)
        why = NOTHING_LEFT if whole else "none could be the cause of what is left"
        return f"{_counted(count, 'other known mistake')} not tried: {why}."
    reasons = {each.reason for each in rows}
    why = reasons.pop() if len(reasons) == 1 and reasons <= set(BEYOND) else "no known mistake could be the cause"
    others = f"{count} {'was' if count == 1 else 'were'} not tried"
    return f"not explained: {why}; {others}."


def _counted(count: int, what: str) -> str:
    return f"{count} {what} was" if count == 1 else f"{count} {what}s were"
