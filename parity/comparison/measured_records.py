"""The record of every measured model, layer by layer (`tools/record_parity.py`), as a value with types."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plain import Plain


@dataclass(frozen=True, kw_only=True)
class CheckSummary(Plain):
    """One kind of check of all layers: the layer with the largest error, and the one nearest its limit."""

    worst_error: float
    worst_layer: str
    limit_there: float
    largest_error_over_limit: float
    bit_identical_layers: int
    largest_candidate_noise: float | None  # None in float64, which has none
    largest_reference_noise: float | None
    reference_noise_estimated: bool


@dataclass(frozen=True, kw_only=True)
class ComparisonSummary(Plain):
    """One comparison of two runs."""

    layers: int
    layers_that_hold: int
    checks: Mapping[str, CheckSummary]  # by name, such as "float64 local"


@dataclass(frozen=True, kw_only=True)
class StageBudget(Plain):
    """The largest of each figure among the layers of one stage."""

    stage: str
    layers: int
    candidate_noise: float
    reference_noise: float
    float32_error: float
    float64_error: float


@dataclass(frozen=True, kw_only=True)
class ProvenModel(Plain):
    """One model at one size."""

    model: str
    size: str  # HxW
    checkpoint_fingerprint: str
    weights: str  # "ema", "raw" or "only"
    comparisons: Mapping[str, ComparisonSummary]  # by what was beside what
    rounding_by_operation: tuple[StageBudget, ...]  # local
    rounding_along_the_network: tuple[StageBudget, ...]  # accumulated


@dataclass(frozen=True, kw_only=True)
class ProvenModels(Plain):
    """Every measured model."""

    what: str
    command: str
    image_count: str
    provenance: Mapping[str, Any]
    rows: tuple[ProvenModel, ...]
