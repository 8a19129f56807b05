"""`effconv parity --layerwise` as one job: find the reference and the candidate, compare, explain, record."""

import numpy as np
import torch

from ...convert.conversion import convert
from ...convert.sources import open_checkpoint
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ...progress import CHANGES, LAYERS, progress
from ..mistakes.network import Change, raw_weights
from ..traces.official import OfficialTrace, official_variables
from ..traces.recording import RecordedTrace
from ..traces.trace import Trace
from .backward import compare_gradients
from .compare import compare
from .exercise import unexercised
from .explain import Explained, explain
from .records import ComparisonRecord, Images, Reference, WeightsByName
from .rows import first_failure
from .subject import (
    Choice,
    Fetch,
    Subject,
    candidate_record,
    checkpoint_record,
    choose_subject,
    choose_trace,
    load_candidate,
)
from .verdict import Sides, comparison_record
from .weights_by_name import compare_by_name

LIVE = ("tensorflow", "graph", "saved model")  # references that TensorFlow runs


def compare_layerwise(
    choice: Choice, fetch: Fetch, command: str, *, explaining: bool, backward: bool
) -> ComparisonRecord:
    """Compare, and return the record. Raises EffconvError for bad input."""
    subject = choose_subject(choice, fetch)
    trace = choose_trace(choice, subject)
    if trace.config != subject.config:
        raise EffconvError(
            f"{choice.reference}: a trace of {trace.config.name}, and the model asked for is {subject.config.name}"
        )
    clean = subject.load()
    candidate = load_candidate(choice, subject, clean)
    with progress("comparing", LAYERS) as report:
        rows = compare(trace, candidate, report)
    gradient_rows = []
    if backward:
        variables, _ = official_variables(subject.checkpoint, subject.config, subject.weights, verify=False)
        gradient_rows = compare_gradients(candidate, variables, trace.images)
    first = first_failure(rows)
    explained = Explained()
    if explaining and first:
        with progress("explaining", CHANGES) as report:
            explained = explain(trace, candidate, clean, first, _raw(subject), report)
    tensors = _compare_tensors(subject, candidate, trace)
    unreached = unexercised(candidate, trace.images)
    batch, channels, height, width = trace.images.shape
    label = trace.source.get("images", "of the trace")
    sides = Sides(
        reference=Reference.of(trace.source),
        candidate=candidate_record(choice, subject),
        images=Images(label=label, shape=(batch, channels, height, width)),
    )
    return comparison_record(subject.config.name, rows, gradient_rows, explained, sides, command, tensors, unreached)


def _compare_tensors(subject: Subject, candidate: EfficientDet, trace: Trace) -> WeightsByName:
    """Every tensor beside the checkpoint's; TensorFlow reads it where the reference has TensorFlow run anyway."""
    if isinstance(trace, OfficialTrace):  # it has read the checkpoint
        variables, reading = trace.variables, trace.source["reading"]
    else:
        by_tensorflow = trace.source.get("kind") in LIVE and not isinstance(trace, RecordedTrace)
        variables, source = official_variables(
            subject.checkpoint, subject.config, subject.weights, verify=False, by_tensorflow=by_tensorflow
        )
        reading = source["reading"]
    compared, faults = compare_by_name(candidate.state_dict(), variables, subject.config)
    return WeightsByName(compared=compared, differ=faults, read_by=reading, **checkpoint_record(subject))


def _raw(subject: Subject) -> list[Change]:
    """The checkpoint's raw weights as a change, where it holds any beside those used."""
    checkpoint = open_checkpoint(subject.checkpoint, verify=False)
    chosen = convert(checkpoint, subject.config, "raw", verify=False)
    if chosen.plan.weights != "raw":
        return []
    return [raw_weights({key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in chosen.state.items()})]
