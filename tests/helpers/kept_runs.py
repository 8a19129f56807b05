"""A run of the smallest tiny model, kept in memory, so that single layers of it can be changed."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from effconv.effdet_torch.config import Config
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.comparison.rows import Row
from effconv.parity.traces.candidate_trace import CandidateTrace
from effconv.parity.traces.images import noise
from effconv.parity.traces.trace import Activation, Kind
from tiny_models import load_tiny

SWISH = Path(__file__).parent.parent / "golden" / "tiny-swish"
IMAGES = noise(0, (64, 64))
Edit = Callable[[Activation], Activation | None]
Runs = Mapping[Kind, list[Activation]]


class Kept:
    """A trace of kept runs. `edits` are by key, "every" for all others; a layer edited to None is left out."""

    def __init__(self, runs: Runs, config: Config, *kinds: Kind, **edits: Edit):
        self.config, self.images, self.runs, self.edits = config, IMAGES, runs, edits
        self.kinds: tuple[Kind, ...] = kinds or tuple(runs)
        self.source: dict[str, Any] = {"kind": "kept", "label": "kept"}
        self.exact = True
        self.required = frozenset(each.key for each in runs[self.kinds[0]])

    def activations(self, kind: Kind) -> Iterator[Activation]:
        for activation in self.runs[kind]:
            edit = self.edits.get(activation.key) or self.edits.get("every")
            edited = edit(activation) if edit else activation
            if edited is not None:
                yield edited


def keep_runs() -> Runs:
    """Both kinds of run of the model as it is."""
    trace = CandidateTrace(load_tiny(SWISH), IMAGES, {})
    # The arrays are the model's own memory, which it may use again.
    return {
        kind: [
            each._replace(float32=each.float32.copy(), float64=each.float64.copy()) for each in trace.activations(kind)
        ]
        for kind in trace.kinds
    }


def single_only(activation: Activation) -> Activation:
    """The activation of a reference that exists in float32 only."""
    return activation._replace(float64=None)


def failing(rows: list[Row]) -> dict[str, str]:
    """{key: what is wrong} of the rows that do not hold."""
    return {row.layer.key: row.reason for row in rows if not row.ok}


def hooks(model: EfficientDet | nn.Module) -> int:
    """How many hooks a comparison has left on a model."""
    return sum(len(each._forward_hooks) for each in model.modules())
