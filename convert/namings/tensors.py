"""A state dict from our names to a port's and back, every tensor accounted for.

Arithmetic is in float64 and rounded once. It is needed where a port's convolution lacks a bias that the norm behind it
takes away again (its running mean holds it), and where its batch norm has another epsilon (its running variance does).
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from ...effdet_torch.config import Config
from ...strict_json import json_text
from ..layout import Array
from .naming import Naming, Place, places


def to_port(state: Mapping[str, Array], naming: Naming, config: Config) -> dict[str, Array]:
    """{their key: array} of a whole state dict of ours, float32; what they have without use is written as ones."""
    theirs: dict[str, Array] = {}
    vectors: dict[str, list[Array]] = {}
    for place in places(naming, config):
        value = state[place.ours]
        if place.element is not None:
            vectors.setdefault(place.theirs, []).append(value)
        elif not place.lacking:
            theirs[place.theirs] = _outgoing(value, place, state)
    stacked = {key: np.stack(values) for key, values in vectors.items()}
    unused = {key: np.ones(shape, np.float32) for key, shape in naming.unused(config).items()}
    return theirs | stacked | unused


def from_port(theirs: Mapping[str, Array], naming: Naming, config: Config) -> dict[str, Array]:
    """Our state dict of a port's, which must be whole (`expected`); a bias it lacks is zero."""
    state: dict[str, Array] = {}
    for place in places(naming, config):
        if place.theirs in theirs:
            value = theirs[place.theirs]
            taken = value if place.element is None else np.array(value[place.element])
            state[place.ours] = _incoming(taken, place)
        else:
            state[place.ours] = np.zeros(place.shape, np.float32)
    return state


def optional(naming: Naming, config: Config) -> dict[str, tuple[int, ...]]:
    """{key: shape} of the biases that the port's class lacks, and that some of its files have."""
    return {place.theirs: place.shape for place in places(naming, config) if place.lacking}


def expected(naming: Naming, config: Config) -> dict[str, tuple[int, ...]]:
    """{key: shape} of every tensor a port's file of this model has."""
    shapes: dict[str, tuple[int, ...]] = dict(naming.unused(config))
    for place in places(naming, config):
        if place.element is not None:
            shapes[place.theirs] = (place.element + 1,)  # the last of the vector's comes last
        elif not place.lacking:
            shapes[place.theirs] = place.shape
    return shapes


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A digest of all names and shapes: equal exactly when they are."""
    return hashlib.sha256(json_text(sorted((key, list(shape)) for key, shape in shapes.items())).encode()).hexdigest()


def _outgoing(value: Array, place: Place, state: Mapping[str, Array]) -> Array:
    if not place.added and not place.folded_bias:
        return value
    exact = value.astype(np.float64)
    if place.folded_bias:
        exact -= state[place.folded_bias]
    return (exact + place.added).astype(value.dtype)


def _incoming(value: Array, place: Place) -> Array:
    return (value.astype(np.float64) - place.added).astype(value.dtype) if place.added else value
