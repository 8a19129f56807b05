"""Which known porting mistake explains a difference: each is made on purpose, one at a time, and compared again."""

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
from .rows import Row

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


def explain(
    trace: Trace,
    candidate: EfficientDet,
    clean: EfficientDet,
    first: Row,
    more: Sequence[Change] = (),
    report: Report | None = None,
) -> list[Explanation]:
    """Changes that move the first difference onwards or remove it, the most explaining first.

    `first` is the row where `candidate` and `trace` part. Every change is made to the candidate, as if the reference
    computed so; and to `clean`, a model with the checkpoint's own weights, as if the candidate did. `more` adds changes
    to those of `network.CHANGES`.
    """
    order = {layer.key: index for index, layer in enumerate(layers(trace.config))}
    changes = [change for change in (*CHANGES.values(), *more) if change.fits(trace.config)]
    # A change that first shows further on leaves the first difference as it is.
    changes = [
        change for change in changes if order[change.shows(trace.config) or ""] <= order.get(first.layer.key, -1)
    ]
    explanations: list[Explanation] = []
    differs = candidate is not clean and first_difference(CandidateTrace(clean, trace.images, {}), candidate)
    done, total = 0, len(changes) * (2 if differs else 1)

    def consider(change: Change, side: str, after: str | None) -> None:
        nonlocal done
        done += 1
        if report:
            report(done, total)
        if after is None or order.get(after, -1) > order.get(first.layer.key, -1):
            explanations.append(Explanation(change.name, change.summary, side, first.layer.key, after))

    double = copied_with_shared_weights(candidate).double()
    clean_double = copied_with_shared_weights(clean).double()
    for change in changes:
        if _agree(_float64_of(trace), changed(double, change), trace, first.layer.key):
            consider(change, "reference", first_difference(trace, changed(candidate, change)))
        else:
            consider(change, "reference", first.layer.key)
        if not differs:
            continue
        steps = Lockstep(double, trace.images, layers(trace.config)).steps()
        if _agree(steps, changed(clean_double, change), trace, first.layer.key):
            altered = CandidateTrace(changed(clean, change), trace.images, {})
            consider(change, "candidate", first_difference(altered, candidate))
        else:
            consider(change, "candidate", first.layer.key)
    end = len(order)
    return sorted(explanations, key=lambda explanation: -order.get(explanation.first_failure_after or "", end))


def _float64_of(trace: Trace) -> Steps:
    if "accumulated" in trace.kinds:
        for activation in trace.activations("accumulated"):
            yield activation.key, activation.float64


def _agree(steps: Steps, model: EfficientDet, trace: Trace, last: str) -> bool:
    """Whether a float64 `model` agrees with another float64 run in every layer up to `last`.

    A quick look that rules most changes out; without the other run at hand it rules out none.
    """
    run = Lockstep(model, trace.images, layers(trace.config))
    try:
        for key, reference in steps:
            if reference is None:
                return True
            own = run.at(key)
            if own is None or own.shape != reference.shape or fault_of(own, "") or fault_of(reference, ""):
                return False
            if relative_error(own, reference, largest(reference)) > FLOAT64_LIMIT:
                return False
            if key == last:
                return True
    finally:
        run.close()
        steps.close()
    return True


def first_difference(trace: Trace, model: EfficientDet) -> str | None:
    """Key of the first layer that fails, looking no further; local comparisons first. None when all hold."""
    networks = precisions(model)
    for kind in trace.kinds:
        for row in compare_in_turn(trace, networks, kind):
            if not row.ok:
                return row.layer.key
    return None
