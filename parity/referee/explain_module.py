"""Which known porting mistakes another network makes: effconv's makes them too, until the two agree."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ...convert.layers import layers
from ...effdet_torch.model import EfficientDet
from ..comparison.explain import Explained, Explanation
from ..comparison.records import TriedRow
from ..comparison.rows import Row
from ..comparison.tried import (
    EXPLAINS,
    FLOAT32_ALONE,
    IN_PART,
    NONE_BY_ITSELF,
    NOT_FOUND,
    NOTHING_LEFT,
    Place,
    left_out,
    not_tried,
    outcome,
    worth_trying,
)
from ..mistakes.network import CHANGES, Change, changed
from .compare_module import Fault, first_fault
from .reference_run import in_float64, reference_run
from .taps import Tap

Report = Callable[[int, int], None]
SIDE = "candidate"  # whose mistakes are looked for


class _Trial(NamedTuple):
    """What is left once these changes are made."""

    changes: tuple[Change, ...]
    fault: Fault | None


def explain_module(
    double: nn.Module,
    model: EfficientDet,
    images: Tensor,
    rows: Sequence[Row],
    taps: Sequence[Tap],
    report: Report | None = None,
    limits: Mapping[str, float] | None = None,
) -> Explained:
    """The known mistakes of a network (`double`, in float64, or one in float32 that is held to `limits`), in their
    order: one after another is made by a copy of `model` too, as long as the first fault moves on or vanishes. Two are
    tried at once where one alone moves nothing. Of each of the others, what it did when it was tried last.

    `rows` are its layers as they were compared, one of which fails. Where none differs by itself, no change is tried.
    """
    order = {layer.key: place for place, layer in enumerate(layers(model.config))}
    twin = in_float64(model)
    fault = first_fault(double, reference_run(twin, images), taps, limits=limits)
    if fault is None:
        return Explained((), [left_out(change, _beyond(rows, taps)) for change in CHANGES.values()])
    found: list[Explanation] = []
    tried_rows: dict[str, TriedRow] = {}  # by the change's name
    while fault is not None:
        first, made = fault.key, {each.change for each in found}
        left = [change for change in CHANGES.values() if change.name not in made]
        fitting = worth_trying(left, model.config, first, order)
        tried_rows |= {row.change: row for row in not_tried(left, model.config, first, order)}

        def tried(*changes: Change, twin: EfficientDet = twin, fault: Fault = fault) -> _Trial:
            other = twin
            for change in changes:
                other = changed(other, change)
            return _Trial(changes, first_fault(double, reference_run(other, images), taps, fault.key, limits))

        best, alone = _best(fault, fitting, tried, order, report)
        for (change,), after in alone:
            tried_rows[change.name] = outcome(change, SIDE, _place(fault), _place(after), order)
        if best is None:
            break
        for change in best.changes:
            change.apply(twin)
            moved = best.fault and best.fault.key
            found.append(Explanation(change.name, change.summary, SIDE, first, moved))
            effect = IN_PART if best.fault else EXPLAINS
            tried_rows[change.name] = outcome(change, SIDE, _place(fault), _place(best.fault), order, effect)
        fault = best.fault
    # The search ends as soon as nothing differs any more.
    spared = [change for change in CHANGES.values() if found and change.name not in tried_rows]
    tried_rows |= {change.name: left_out(change, NOTHING_LEFT) for change in spared}
    return Explained(found, [tried_rows[name] for name in CHANGES if name in tried_rows])


def _beyond(rows: Sequence[Row], taps: Sequence[Tap]) -> str:
    """Why no known mistake explains `rows`, of which some fail but none by itself."""
    keys = {tap.layer.key for tap in taps}
    found = [row for row in rows if row.layer.key in keys]
    if all(row.ok for row in found):
        return NOT_FOUND
    # What cannot be compared has no check: it does not hold either.
    checks = [row.checks.get(name) for row in found for name in ("float64 local", "float64 accumulated")]
    return FLOAT32_ALONE if all(check and check.ok for check in checks) else NONE_BY_ITSELF


def _place(fault: Fault | None) -> Place | None:
    return fault and Place(fault.key, fault.error)


def _best(
    fault: Fault,
    changes: Sequence[Change],
    tried: Callable[..., _Trial],
    order: dict[str, int],
    report: Report | None,
) -> tuple[_Trial | None, list[_Trial]]:
    """The trial whose first fault is furthest on, None where none moves it; and those of one change each."""
    end = len(order)

    def place(trial: _Trial) -> int:
        return order[trial.fault.key] if trial.fault else end

    trials = []
    for number, change in enumerate(changes):
        trials.append(tried(change))
        if report:
            report(number + 1, len(changes))
        if trials[-1].fault is None:
            return trials[-1], trials
    furthest = max(trials, key=place, default=None)
    if furthest and place(furthest) > order[fault.key]:
        return furthest, trials
    # Several mistakes between two layers that can be looked at: of those that change what the first fault is.
    involved = [trial.changes[0] for trial in trials if _involved(trial, fault)]
    pairs = [tried(*pair) for pair in itertools.combinations(involved, 2)]
    furthest = max(pairs, key=place, default=None)
    return (furthest if furthest and place(furthest) > order[fault.key] else None), trials


def _involved(trial: _Trial, fault: Fault) -> bool:
    """Whether the first fault is where it was, and another."""
    return trial.fault is not None and trial.fault.key == fault.key and trial.fault.apart != fault.apart
