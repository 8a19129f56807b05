"""A trace and a model -> rows with a verdict: which layer differs first, and whether rounding can explain it."""

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...convert.layers import Layer, layers
from ...effdet_torch.model import EfficientDet
from ..copying import copied_with_shared_weights
from ..difference import apart, fault_of
from ..gaps import Array
from ..traces.candidate import Lockstep
from ..traces.trace import Activation, Kind, Trace
from .bounds import Bounds
from .checks import Costs, bounded_checks, checks_of
from .rounded import rounding_costs, with_sequential_means
from .rows import Check, Row
from .soundness import Soundness, precision_of, sound_layers

Report = Callable[[int, int], None]


def compare(trace: Trace, model: EfficientDet, report: Report | None = None) -> list[Row]:
    """Compare every layer of `model` with a trace, in all the ways the trace allows, in the order of computation.

    Local comparisons feed each layer the reference's own float32 input, accumulated ones run from the images. The
    soundness of the candidate's own float32 belongs to the local one; where the trace lacks layers it is looked at by
    itself. `report(done, total)` counts layers. Raises EffconvError when the images do not suit the model.
    """
    order = {layer.key: index for index, layer in enumerate(layers(trace.config))}
    merged: dict[str, Row] = {}
    networks = precisions(model)
    passes: list[Iterator[Row]] = []
    for kind in trace.kinds:
        costs = dict[str, float]()
        if kind == "accumulated":
            passes.append(_cost_rows(networks, trace.images, costs))
        passes.append(compare_in_turn(trace, networks, kind, costs))
    if "local" not in trace.kinds or not is_complete(trace) or precision_of(model) != "float32":
        passes.append(_sound_rows(trace, networks))
    total = len(passes) * len(order)
    done = 0
    for rows in passes:
        for row in rows:
            earlier = merged.get(row.layer.key)
            if earlier:
                row = Row(
                    row.layer,
                    earlier.shape or row.shape,
                    {**earlier.checks, **row.checks},
                    {**earlier.faults, **row.faults},
                    {**earlier.soundness, **row.soundness},
                )
            if row.checks or row.faults or row.soundness:  # what rounding costs says nothing of a layer
                merged[row.layer.key] = row
            done += 1
            if report:
                report(min(done, total), total)
        _return_memory()
    return sorted(merged.values(), key=lambda row: order.get(row.layer.key, -1))


def is_complete(trace: Trace) -> bool:
    """Whether the trace must hold every layer of its model, so that each is fed the reference's own input."""
    return trace.required >= {layer.key for layer in layers(trace.config)}


def _sound_rows(trace: Trace, networks: "Precisions") -> Iterator[Row]:
    table = {layer.key: layer for layer in layers(trace.config)}
    for key, shape, sound in sound_layers(networks.single, networks.double, trace.images):
        yield Row(table[key], shape, {}, {}, {"candidate": sound})


def _cost_rows(networks: "Precisions", images: NDArray[np.float32], costs: dict[str, float]) -> Iterator[Row]:
    """Fill `costs`, and say of each layer that it was computed: on d7x it takes minutes."""
    table = {layer.key: layer for layer in layers(networks.double.config)}
    for key, cost in rounding_costs(*networks, images):
        costs[key] = cost
        yield Row(table[key], (), {}, {})


def _return_memory() -> None:
    """Hand freed memory back to the system.

    The GNU C library keeps what was freed in pieces: after a pass over d7x two gigabytes, and the next starts on top.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


class Precisions(NamedTuple):
    """A candidate in every form that is run. Weights are shared where they can be."""

    single: EfficientDet  # as it is given: float32, as a rule
    double: EfficientDet
    rounded: EfficientDet  # float64 too; its means round as TensorFlow's do, its layers once


def precisions(model: EfficientDet) -> Precisions:
    """The forms of `model`, which stays as it is."""
    double = copied_with_shared_weights(model).double()
    return Precisions(model, double, with_sequential_means(double))


def compare_in_turn(
    trace: Trace, networks: Precisions, kind: Kind, costs: Mapping[str, float] | None = None
) -> Iterator[Row]:
    """One kind of comparison, layer by layer; only the current layer is in memory.

    `costs` are those of `rounding_costs`, which an accumulated comparison needs and finds by itself where not given.
    """
    if kind == "accumulated" and costs is None:
        costs = dict(rounding_costs(*networks, trace.images))
    table = layers(trace.config)
    known = {layer.key: layer for layer in table}
    single, double = (Lockstep(network, trace.images, table) for network in networks[:2])
    # Half precision is judged by its own unit and apart from the reference, whose bounds are float32's.
    bounded = kind == "local" and is_complete(trace) and precision_of(networks.single) == "float32"
    bounds = Bounds(networks.double, table) if bounded else None
    dtype = next(networks.single.parameters()).dtype
    once = kind == "local" and not bounded  # a layer rounded once, fed what the others are fed
    rounded = Lockstep(networks.rounded, trace.images, table, rounding=dtype) if once else None
    runs = [run for run in (single, double, rounded) if run]
    missing = set(trace.required)
    # Where the reference's own float32 is looked at locally, its noise counts.
    rounding = Costs(sound="local" in trace.kinds and is_complete(trace))
    try:
        for activation in trace.activations(kind):
            missing.discard(activation.key)
            layer = known.get(activation.key)
            shape = activation.shape or activation.float32.shape
            if layer is None:
                unknown = Layer(activation.key, endpoints=(activation.key,))
                yield Row(unknown, shape, {}, {kind: "in the reference, but no layer of this model"})
                continue
            own, wide = (_sample(run.at(layer.key), shape, activation.step) for run in (single, double))
            fault = _fault(activation, shape, own, wide, single.stopped)
            checks: dict[str, Check] = {}
            soundness: dict[str, Soundness] = {}
            if not fault and own is not None and wide is not None:
                exact = layer.exact and trace.exact and kind == "local"
                if bounds:
                    bound = bounds.take(layer.module)
                    pair = bound, bounds.take_in_sequence(layer.module, bound)
                    ours, theirs = (limit.permute(0, 2, 3, 1).numpy() for limit in pair)
                    both = ours, ours if pair[1] is bound else theirs
                    checks, soundness = bounded_checks(activation, own, wide, both, exact)
                    del bound, pair, ours, theirs, both
                else:
                    if rounded:
                        cost = apart(_sample(rounded.at(layer.key), shape, activation.step), wide)
                    else:
                        cost = (costs or {}).get(layer.key, 0.0)
                    rounding.expected = max(rounding.expected, cost)
                    checks = checks_of(activation, kind, own, wide, rounding, exact)
            del own, wide
            if kind == "local":
                for run in runs:
                    run.replace(layer.key, activation.float32)
            del activation  # or it would be kept while the next one is computed
            yield Row(layer, shape, checks, {kind: fault} if fault else {}, soundness)
        for layer in table:
            if layer.key in missing:
                yield Row(layer, (), {}, {kind: "not in the reference"})
    finally:
        for run in runs:
            run.close()
        if bounds:
            bounds.close()


def compare_traces(reference: Trace, other: Trace, model: EfficientDet) -> Iterator[Row]:
    """Every layer of `reference` beside the same layer of another trace, which has float64, both from the images on.

    `model` has the weights of both: what rounding costs it sets the limit.
    """
    table = layers(reference.config)
    known = {layer.key: layer for layer in table}
    rounding = Costs(sound=False)
    candidates = other.activations("accumulated")
    networks = precisions(model)
    rounded = Lockstep(networks.rounded, reference.images, table, rounding=torch.float32)
    double = Lockstep(networks.double, reference.images, table)
    try:
        for activation in reference.activations("accumulated"):
            layer = known.get(activation.key, Layer(activation.key, endpoints=(activation.key,)))
            shape = activation.shape or activation.float32.shape
            match = next((candidate for candidate in candidates if candidate.key == activation.key), None)
            own = _sample(match and match.float32, shape, activation.step)
            wide = _sample(match and match.float64, shape, activation.step)
            fault = _fault(activation, shape, own, wide, "")
            checks: dict[str, Check] = {}
            if not fault and own is not None and wide is not None:
                runs = (_sample(run.at(layer.key), shape, activation.step) for run in (rounded, double))
                rounding.expected = max(rounding.expected, apart(*runs))
                checks = checks_of(activation, "accumulated", own, wide, rounding, False)
            yield Row(layer, shape, checks, {"accumulated": fault} if fault else {})
    finally:
        rounded.close()
        double.close()


def _sample(array: Array | None, shape: tuple[int, ...], step: int) -> Array | None:
    if array is None or array.shape != shape or step == 1:
        return array
    return array.reshape(-1)[::step]


def _fault(
    activation: Activation, shape: tuple[int, ...], single: Array | None, double: Array | None, stopped: str
) -> str:
    fault = fault_of(activation.float32, "reference")
    if single is None or double is None:
        return fault or f"not computed by the candidate{stopped}"
    if single.shape != activation.float32.shape:
        return fault or f"shape {single.shape}, in the reference {shape}"
    return fault or fault_of(single, "candidate") or fault_of(double, "candidate in float64")
