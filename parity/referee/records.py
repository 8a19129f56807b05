"""The record of the judge of other projects' networks (`tools/record_referee.py`), as a value with types."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plain import Plain


@dataclass(frozen=True, kw_only=True)
class PairedByValue(Plain):
    """How much of a network is paired when its modules have lost their names."""

    layers: int  # that compute a value of their own
    paired: int
    wrong: tuple[str, ...]  # our names of layers paired with another module
    ok: bool


@dataclass(frozen=True, kw_only=True)
class JudgedNetwork(Plain):
    """One project's network of one model."""

    network: str
    model: str
    images: tuple[int, int, int, int]  # (B, 3, H, W)
    layers: int
    hold: int
    part_of_the_next: int  # layers that are no modules there
    first_fault: str | None
    mistakes: tuple[str, ...]
    explained: bool
    outputs: float  # the largest relative difference, from the images on, in float64


@dataclass(frozen=True, kw_only=True)
class CleanRun(Plain):
    """A right network on weights and images of a seed."""

    seed: int
    ok: bool
    layers: int


@dataclass(frozen=True, kw_only=True)
class PlantedFault(Plain):
    """One fault planted in effdet's network."""

    fault: str
    detected: bool
    first_fault: str | None
    expected: str  # the layer it is in
    named: bool
    mistakes: tuple[str, ...]
    known_as: str | None  # the known mistake it is
    explained: bool


@dataclass(frozen=True, kw_only=True)
class RefereeRecord(Plain):
    """How good the judge is, and what he says of other projects."""

    what: str
    command: str
    versions: Mapping[str, str]  # or commits, by project
    without_names: PairedByValue
    ports: tuple[JudgedNetwork, ...]
    clean: tuple[CleanRun, ...]
    planted: tuple[PlantedFault, ...]
    provenance: Mapping[str, Any]
