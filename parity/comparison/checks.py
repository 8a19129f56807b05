"""The checks of one layer: all distances between its arrays, which are gone through once, and what is allowed."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..difference import distances, largest, ratio
from ..gaps import Array, Gap, Pair, measure
from ..limits import FLOAT64_LIMIT, FLUSHED, accumulated_limit, unnamed_limit
from ..traces.trace import Activation, Kind
from .rows import Check, Noise
from .soundness import Soundness

Arrays = Mapping[str, Array | None]  # by what each is of; None where there is none
FIRST_AND_SECOND = {  # whose gap is measured, in the candidate ("single", "double") and the reference
    "candidate": ("single", "double"),
    "reference": ("float32", "float64"),
    "in float64": ("double", "float64"),
    "in float32": ("single", "float32"),
}


@dataclass
class Costs:
    """What rounding cost up to the layer at hand, each of a layer's largest value: the limits are made of it."""

    sound: bool  # whether every layer of the reference's float32 was found sound, so that its noise counts
    expected: float = 0.0  # of a float64 run whose every layer is rounded once
    reference_noise: float = 0.0  # of the reference's own float32


def checks_of(
    activation: Activation, kind: Kind, single: Array, double: Array, costs: Costs, exact: bool
) -> dict[str, Check]:
    """The candidate's float32 and float64 beside the reference's, within what rounding may add up to.

    The reference's noise at this layer is put into `costs` first.
    """
    wide, scale = activation.float64, _scale(activation)
    gaps = _measured({"single": single, "double": double, "float32": activation.float32, "float64": wide})
    own = ratio(gaps["candidate"].largest, scale)
    checks = {}
    if wide is not None:
        checks[f"float64 {kind}"] = Check(distances(double, wide, scale, gaps["in float64"]), FLOAT64_LIMIT)
        noise = Noise(own, ratio(gaps["reference"].largest, scale), False)
        if costs.sound:
            costs.reference_noise = max(costs.reference_noise, noise.reference)
    elif activation.noise is not None:
        noise = Noise(own, activation.noise, False)
    else:
        noise = Noise(own, costs.expected, True)
    if exact:
        limit = 0.0
    elif kind == "local":
        limit = unnamed_limit(costs.expected)
    else:
        limit = accumulated_limit(costs.expected, costs.reference_noise)
    apart = distances(single, activation.float32, scale, gaps["in float32"])
    checks[f"float32 {kind}"] = Check(apart, limit, noise)
    return checks


def bounded_checks(
    activation: Activation, single: Array, double: Array, bounds: tuple[Array, Array], exact: bool
) -> tuple[dict[str, Check], dict[str, Soundness]]:
    """One layer of both sides on the same input: each sound by itself, and the two as near as sound sides are.

    `bounds` are the candidate's and the reference's, which may be the same array.
    """
    wide, scale = activation.float64, _scale(activation)
    arrays: dict[str, Array | None] = {"single": single, "double": double, "float32": activation.float32}
    arrays |= {"float64": wide, "bound": bounds[0]}
    theirs = "bound"
    if bounds[1] is not bounds[0]:
        theirs = "reference's bound"
        arrays[theirs] = bounds[1]
    allowed = {"candidate": (("bound",), 0.0), "reference": ((theirs,), FLUSHED)}
    gaps = _measured(arrays, allowed | {"in float32": (("bound", theirs), FLUSHED)})
    own = ratio(gaps["candidate"].largest, scale)
    checks = {}
    soundness = {"candidate": Soundness(own, gaps["candidate"].times)}
    noise = Noise(own, own if activation.noise is None else activation.noise, activation.noise is None)
    if wide is not None:
        checks["float64 local"] = Check(distances(double, wide, scale, gaps["in float64"]), FLOAT64_LIMIT)
        reference_error = ratio(gaps["reference"].largest, scale)
        if checks["float64 local"].ok:  # else the bound, of the candidate's weights, says nothing of the reference
            soundness["reference"] = Soundness(reference_error, gaps["reference"].times)
        noise = Noise(own, reference_error, False)
    found = gaps["in float32"]
    apart = distances(single, activation.float32, scale, found)
    if exact:
        checks["float32 local"] = Check(apart, 0.0, noise)
    else:
        largest_bound = (found.bound - FLUSHED) / scale if scale else 0.0
        checks["float32 local"] = Check(apart, largest_bound, noise, found.times)
    return checks, soundness


def _scale(activation: Activation) -> float:
    """The reference's largest value, which every distance is relative to."""
    return largest(activation.float32 if activation.float64 is None else activation.float64)


def _measured(arrays: Arrays, allowed: Mapping[str, tuple[tuple[str, ...], float]] | None = None) -> dict[str, Gap]:
    """The gaps of FIRST_AND_SECOND, of arrays there are; `allowed` is (bounds to add up, what more), by gap."""
    given = {name: array for name, array in arrays.items() if array is not None}
    places = {name: place for place, name in enumerate(given)}
    pairs = {}
    for name, (first, second) in FIRST_AND_SECOND.items():
        if first in given and second in given:
            bounds, more = (allowed or {}).get(name, ((), 0.0))
            moments = name in ("in float64", "in float32")
            pairs[name] = Pair(places[first], places[second], tuple(places[bound] for bound in bounds), more, moments)
    return dict(zip(pairs, measure(list(given.values()), list(pairs.values())), strict=True))
