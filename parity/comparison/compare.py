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
from ..difference import Array, apart, difference, error_and_times, fault_of, largest, relative_error, times_bound
from ..limits import FLOAT64_LIMIT, FLUSHED, accumulated_limit, unnamed_limit
from ..traces.candidate import Lockstep
from ..traces.trace import Activation, Kind, Trace
from .bounds import Bounds
from .rounded import rounding_costs, with_sequential_means
from .rows import Check, Noise, Row
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
    expected = reference_noise = 0.0
    sound = "local" in trace.kinds and is_complete(trace)  # then the reference's own float32 is looked at locally
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
                    both = [limit.permute(0, 2, 3, 1).numpy() for limit in pair]
                    checks, soundness = _bounded_checks(activation, own, wide, both[0], both[1], exact)
                    del bound, pair, both
                else:
                    if rounded:
                        cost = apart(_sample(rounded.at(layer.key), shape, activation.step), wide)
                    else:
                        cost = (costs or {}).get(layer.key, 0.0)
                    expected = max(expected, cost)
                    if sound and activation.float64 is not None:
                        noise = apart(activation.float32, activation.float64)
                        reference_noise = max(reference_noise, noise)
                    checks = _checks(activation, kind, own, wide, (expected, reference_noise), exact)
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
    expected = 0.0
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
                expected = max(expected, apart(*runs))
                checks = _checks(activation, "accumulated", own, wide, (expected, 0.0), False)
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


def _checks(
    activation: Activation, kind: Kind, single: Array, double: Array, costs: tuple[float, float], exact: bool
) -> dict[str, Check]:
    """The candidate's float32 and float64 beside the reference's, within what rounding may add up to."""
    expected, reference_noise = costs  # of rounding every layer once; of the reference, 0 where it may not be sound
    scale = largest(activation.float32 if activation.float64 is None else activation.float64)
    own = relative_error(single, double, scale)
    checks = {}
    if activation.float64 is not None:
        checks[f"float64 {kind}"] = Check(difference(double, activation.float64, scale), FLOAT64_LIMIT)
        noise = Noise(own, relative_error(activation.float32, activation.float64, scale), False)
    elif activation.noise is not None:
        noise = Noise(own, activation.noise, False)
    else:
        noise = Noise(own, expected, True)
    limit = (
        0.0 if exact else unnamed_limit(expected) if kind == "local" else accumulated_limit(expected, reference_noise)
    )
    checks[f"float32 {kind}"] = Check(difference(single, activation.float32, scale), limit, noise)
    return checks


def _bounded_checks(
    activation: Activation, single: Array, double: Array, bound: Array, reference_bound: Array, exact: bool
) -> tuple[dict[str, Check], dict[str, Soundness]]:
    """One layer of both sides on the same input: each sound by itself, and the two as near as sound sides are."""
    scale = largest(activation.float32 if activation.float64 is None else activation.float64)
    own, times = error_and_times(single, double, scale, bound)
    checks = {}
    soundness = {"candidate": Soundness(own, times)}
    noise = Noise(own, own if activation.noise is None else activation.noise, activation.noise is None)
    if activation.float64 is not None:
        checks["float64 local"] = Check(difference(double, activation.float64, scale), FLOAT64_LIMIT)
        reference_error, times = error_and_times(
            activation.float32, activation.float64, scale, reference_bound, FLUSHED
        )
        if checks["float64 local"].ok:  # else the bound, of the candidate's weights, says nothing of the reference
            soundness["reference"] = Soundness(reference_error, times)
        noise = Noise(own, reference_error, False)
    apart = difference(single, activation.float32, scale)
    if exact:
        checks["float32 local"] = Check(apart, 0.0, noise)
    else:
        together = 2 * bound if reference_bound is bound else bound + reference_bound
        times = times_bound(single, activation.float32, together, FLUSHED)
        largest_bound = largest(together) / scale if scale else 0.0
        checks["float32 local"] = Check(apart, largest_bound, noise, times)
    return checks, soundness
