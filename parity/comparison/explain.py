"""Which known porting mistake explains a difference: each is made on purpose, one at a time, and compared again."""

import math
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from ...convert.layers import layers
from ...effdet_torch.model import EfficientDet
from ..copying import copied_with_shared_weights
from ..difference import fault_of, largest, relative_error
from ..gaps import Array
from ..limits import FLOAT64_LIMIT
from ..mistakes.network import CHANGES, Change, changed
from ..traces.candidate import Lockstep
from ..traces.candidate_trace import CandidateTrace
from ..traces.trace import Trace
from .compare import compare_in_turn, precisions
from .records import TriedRow
from .rows import Row
from .tried import EXPLAINS, IN_PART, Place, not_tried, outcome, worth_trying

Report = Callable[[int, int], None]


Steps = Generator[tuple[str, Array | None], None, None]


class Explanation(NamedTuple):
    """A change that makes the first difference vanish."""

    change: str
    summary: str
    side: str  # "reference" or "candidate": which of the two computes so
    from_layer: str  # where the difference began
    first_failure_after: str | None  # where the next one begins; None when the change explains everything

    @property
    def explains(self) -> bool:
        """Whether nothing else differs."""
        return self.first_failure_after is None


class Explained(NamedTuple):
    """What was looked for, and found."""

    explanations: Sequence[Explanation] = ()
    tried: Sequence[TriedRow] = ()  # every known mistake: what it did, or why it was not made


def explain(
    trace: Trace,
    candidate: EfficientDet,
    clean: EfficientDet,
    first: Row,
    more: Sequence[Change] = (),
    report: Report | None = None,
) -> Explained:
    """Changes that move the first difference onwards or remove it, the most explaining first; and what others do.

    `first` is the row where `candidate` and `trace` part. Every change is made to the candidate, as if the reference
    computed so; and to `clean`, a model with the checkpoint's own weights, as if the candidate did. `more` adds changes
    to those of `network.CHANGES`.
    """
    order = {layer.key: index for index, layer in enumerate(layers(trace.config))}
    known, begins = (*CHANGES.values(), *more), first.layer.key
    changes = worth_trying(known, trace.config, begins, order)
    explanations: list[Explanation] = []
    tried = not_tried(known, trace.config, begins, order)
    differs = None if candidate is clean else _first_differing(CandidateTrace(clean, trace.images, {}), candidate)
    done, total = 0, len(changes) * (2 if differs else 1)

    def consider(change: Change, side: str, before: Place | None, after: Place | None) -> None:
        nonlocal done
        done += 1
        if report:
            report(done, total)
        explained = ""
        if after is None or order.get(after.layer, -1) > order.get(begins, -1):
            key = after and after.layer
            explanations.append(Explanation(change.name, change.summary, side, begins, key))
            explained = IN_PART if after else EXPLAINS
        tried.append(outcome(change, side, before, after, order, explained))

    double = copied_with_shared_weights(candidate).double()
    clean_double = copied_with_shared_weights(clean).double()

    def own() -> Steps:
        return Lockstep(double, trace.images, layers(trace.config)).steps()

    # What a change does is told beside the same look without it.
    parted = _parted(_float64_of(trace), double, trace, begins)
    own_parted = _parted(own(), clean_double, trace, begins) if differs else None
    for change in changes:
        if after := _parted(_float64_of(trace), changed(double, change), trace, begins):
            consider(change, "reference", parted, after)
        else:
            row = _first_differing(trace, changed(candidate, change))
            consider(change, "reference", _place(first), row and _place(row))
        if not differs:
            continue
        if after := _parted(own(), changed(clean_double, change), trace, begins):
            consider(change, "candidate", own_parted, after)
        else:
            altered = CandidateTrace(changed(clean, change), trace.images, {})
            row = _first_differing(altered, candidate)
            consider(change, "candidate", _place(differs), row and _place(row))
    end = len(order)
    explanations.sort(key=lambda explanation: -order.get(explanation.first_failure_after or "", end))
    return Explained(explanations, tried)


def _place(row: Row) -> Place:
    """Where a row that fails is, and the largest of its errors that are beyond their limits."""
    if row.faults:
        return Place(row.layer.key, math.inf)
    errors = [check.difference.error for check in row.checks.values() if not check.ok]
    errors += [each.error for each in row.soundness.values() if not each.ok]
    return Place(row.layer.key, max(errors, default=math.inf))


def _float64_of(trace: Trace) -> Steps:
    if "accumulated" in trace.kinds:
        for activation in trace.activations("accumulated"):
            yield activation.key, activation.float64


def _parted(steps: Steps, model: EfficientDet, trace: Trace, last: str) -> Place | None:
    """Where a float64 `model` parts from another float64 run, up to the layer `last`; None where the two agree.

    A quick look that rules most changes out; without the other run at hand it rules out none.
    """
    run = Lockstep(model, trace.images, layers(trace.config))
    try:
        for key, reference in steps:
            if reference is None:
                return None
            own = run.at(key)
            if own is None or own.shape != reference.shape or fault_of(own, "") or fault_of(reference, ""):
                return Place(key, math.inf)
            error = relative_error(own, reference, largest(reference))
            if error > FLOAT64_LIMIT:
                return Place(key, error)
            if key == last:
                return None
    finally:
        run.close()
        steps.close()
    return None


def first_difference(trace: Trace, model: EfficientDet) -> str | None:
    """Key of the first layer that fails, looking no further; local comparisons first. None when all hold."""
    row = _first_differing(trace, model)
    return row and row.layer.key


def _first_differing(trace: Trace, model: EfficientDet) -> Row | None:
    """The first row that fails, likewise."""
    networks = precisions(model)
    for kind in trace.kinds:
        for row in compare_in_turn(trace, networks, kind):
            if not row.ok:
                return row
    return None
