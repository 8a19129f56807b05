"""Two sets of activations -> rows with a verdict. NaN, a missing name or another shape fails before any subtraction."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..convert.endpoints import Endpoint, endpoints
from ..effdet_torch.model import EfficientDet
from .candidate import visit_activations
from .golden import Golden, GoldenTensor

# Entries of a record that are no activation of the network.
NOT_LAYERS = ("anchors",)
NOT_LAYER_PREFIXES = ("ops/", "RAW_NOT_EMA/")


class Row(NamedTuple):
    """One layer's comparison. `error` is max |a - b| / max |b|; infinite where the two cannot be compared."""

    name: str  # the official name
    module: str  # ours
    shape: tuple[int, ...]  # (B, H, W, C)
    error: float
    limit: float
    fault: str = ""  # why the two cannot be compared

    @property
    def ok(self) -> bool:
        """Whether the layer is within its limit. NaN is not."""
        return self.error <= self.limit


def compare_with_golden(model: EfficientDet, golden: Golden, limit: float) -> list[Row]:
    """Run `model` on the recorded images and compare every recorded layer, in the order of computation.

    A recorded layer that the model lacks, and a layer of the model that the record lacks, are failing rows.
    """
    recorded = [name for name in golden.names if name not in NOT_LAYERS and not name.startswith(NOT_LAYER_PREFIXES)]
    known = {endpoint.tf: endpoint for endpoint in endpoints(model.config)}
    rows: dict[str, Row] = {}

    def visit(endpoint: Endpoint, activation: Tensor) -> None:
        array = activation.permute(0, 2, 3, 1).contiguous().numpy()
        rows[endpoint.tf] = _row(endpoint, array, golden[endpoint.tf], limit)

    visit_activations(model, torch.from_numpy(golden.images()), (known[n] for n in recorded if n in known), visit)
    for name in recorded:
        if name not in rows:
            rows[name] = Row(name, "", golden[name].shape, float("inf"), limit, "recorded, but not computed here")
    for name, endpoint in known.items():
        if name not in rows:
            rows[name] = Row(name, endpoint.key, (), float("inf"), limit, "computed here, but not recorded")
    return list(rows.values())


def _row(endpoint: Endpoint, array: np.ndarray, golden: GoldenTensor, limit: float) -> Row:
    if array.shape != golden.shape:
        fault = f"shape {array.shape}, recorded {golden.shape}"
        return Row(endpoint.tf, endpoint.key, array.shape, float("inf"), limit, fault)
    ours = array.reshape(-1)[:: golden.step].astype(np.float64)
    error = relative_error(ours, golden.sample.astype(np.float64))
    fault = "" if np.isfinite(array).all() else "not finite"
    return Row(endpoint.tf, endpoint.key, array.shape, error if not fault else float("inf"), limit, fault)


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """max |a - b| / max |b|; infinite when either is not finite, or when the reference alone is all zero."""
    if not (np.isfinite(ours).all() and np.isfinite(reference).all()):
        return float("inf")
    difference, scale = float(np.abs(ours - reference).max()), float(np.abs(reference).max())
    if scale == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / scale
