"""Another network beside effconv's, layer by layer: which layer is at fault.

Judged in float64, where nothing but another function differs by more than FLOAT64_LIMIT; the network's own float32 is
then held against float64 by what rounding a network once costs (`comparison/rounded.py`).
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...convert.layers import Layer
from ...effdet_torch.model import EfficientDet
from ..comparison.compare import precisions
from ..comparison.rounded import rounding_costs
from ..comparison.rows import Check, Row
from ..difference import difference, fault_of, largest
from ..gaps import Array
from ..limits import FLOAT64_LIMIT, accumulated_limit
from ..traces.trace import Kind
from .reference_run import ReferenceRun
from .settle import comparable, like, reference_of
from .taps import Tap, run_tapped

Report = Callable[[int, int], None]


def compare_module(
    module: nn.Module,
    double: nn.Module,
    model: EfficientDet,
    run: ReferenceRun,
    taps: Sequence[Tap],
    report: Report | None = None,
) -> list[Row]:
    """Every tapped layer of `module` beside those of `run`, which is of `model`; all stay as they are.

    `double` is `module` in float64.
    Checks are "float64 local" (each layer given what effconv's layers before it give), "float64 accumulated" and, of
    networks in float32, "float32 accumulated" (from the images on). Raises ModuleError when the network cannot run.
    """
    passes = [Pass("float64 local", double, None), Pass("float64 accumulated", double, None)]
    if next(module.parameters()).dtype == torch.float32:
        passes.append(Pass("float32 accumulated", module, float32_limits(model, run.images)))
    return compare_passes(passes, run, taps, report)


class Pass(NamedTuple):
    """One run of another network beside `ReferenceRun`."""

    name: str  # a precision, then "local": each layer given ours before it, or "accumulated": from the images on
    network: nn.Module
    limits: Mapping[str, float] | None  # by layer, of its largest value; None: FLOAT64_LIMIT


def compare_passes(
    passes: Sequence[Pass], run: ReferenceRun, taps: Sequence[Tap], report: Report | None = None
) -> list[Row]:
    """A row for each tapped layer, with a check of each pass. Raises ModuleError when a network cannot run."""
    rows = {tap.layer.key: Row(tap.layer, shape_of(run, tap.layer), {}, {}) for tap in taps}
    total, done = len(passes) * len(taps), 0

    def merge(tap: Tap, name: str, check: Check | None, fault: str) -> None:
        nonlocal done
        row = rows[tap.layer.key]
        kind: Kind = "local" if name.endswith("local") else "accumulated"
        rows[tap.layer.key] = row._replace(
            checks={**row.checks, **({name: check} if check else {})},
            faults={**row.faults, **({kind: fault} if fault else {})},
        )
        done += 1
        if report:
            report(done, total)

    for name, network, limits in passes:
        for tap, check, fault in _checked(network, run, taps, name, limits):
            merge(tap, name, check, fault)
    return [rows[layer.key] for layer in run.table if layer.key in rows]


class Fault(NamedTuple):
    """A layer that differs."""

    key: str
    apart: float  # the sum of all |differences|, infinite where the two cannot be compared
    error: float  # max |a - b| / max |b|, likewise


def doubled(module: nn.Module) -> nn.Module:
    """A copy of another network in float64, on the CPU and in eval mode."""
    return copy.deepcopy(module).cpu().double().eval()


def first_fault(
    module: nn.Module,
    run: ReferenceRun,
    taps: Sequence[Tap],
    until: str | None = None,
    limits: Mapping[str, float] | None = None,
) -> Fault | None:
    """The first layer, in our order, that is not ours when it is given our values before it: in float64, within
    FLOAT64_LIMIT, or within `limits`.

    A fault at the layer `until`, or before it, is the answer as soon as it is seen: what follows is not computed.
    """
    order = {layer.key: place for place, layer in enumerate(run.table)}
    last = -1 if until is None else order[until]
    failing: dict[str, Fault] = {}

    def look(tap: Tap, output: Tensor) -> Tensor | None:
        key, value = tap.layer.key, run.values.get(tap.layer.key)
        if value is None or not comparable(output, value):
            fault: Fault | None = Fault(key, math.inf, math.inf)
            given = None
        else:
            value = reference_of(run, key, output)
            difference = (output.reshape(value.shape) - value).abs()
            largest, scale = float(difference.max()), float(value.abs().max())
            allowed = (FLOAT64_LIMIT if limits is None else limits[key]) * scale
            error = largest / scale if scale else math.inf
            fault = None if largest <= allowed else Fault(key, float(difference.sum()), error)
            given = like(value, output)
        if fault:
            failing[key] = fault
            if order[key] <= last:
                raise _SeenError
        return given

    with contextlib.suppress(_SeenError):
        missed = run_tapped(module, run.images, taps, look)
        failing.update({tap.layer.key: Fault(tap.layer.key, math.inf, math.inf) for tap in missed})
    return min(failing.values(), key=lambda fault: order[fault.key], default=None)


class _SeenError(Exception):
    """Ends a run whose answer is known."""


def _checked(
    module: nn.Module, run: ReferenceRun, taps: Sequence[Tap], name: str, limits: Mapping[str, float] | None
) -> Iterator[tuple[Tap, Check | None, str]]:
    """(tap, check, why the two cannot be compared) in the order of their computation, then of what they leave out."""
    local = name.endswith("local")
    found: list[tuple[Tap, Check | None, str]] = []

    def look(tap: Tap, output: Tensor) -> Tensor | None:
        value = run.values.get(tap.layer.key)
        if value is None:
            found.append((tap, None, "not computed by effconv's network as it is changed"))
            return None
        if not comparable(output, value):
            shapes = f"shape {tuple(output.shape)}, in effconv {tuple(value.shape)}"
            found.append((tap, None, shapes))
            return None
        value = reference_of(run, tap.layer.key, output)
        own, reference = channels_last(output.reshape(value.shape)), channels_last(value)
        fault = fault_of(own, "module")
        check = None
        if not fault:
            limit = FLOAT64_LIMIT if limits is None else limits[tap.layer.key]
            check = Check(difference(own, reference, largest(reference)), limit)
        found.append((tap, check, fault))
        return like(value, output) if local else None

    precision = next((each.dtype for each in module.parameters()), torch.float32)
    missed = run_tapped(module, run.images.to(precision), taps, look)
    yield from found
    yield from ((tap, None, "not computed by the module") for tap in missed)


def float32_limits(model: EfficientDet, images: Tensor) -> dict[str, float]:
    """What a float32 run from the images on may be off by at each layer: of effconv's network, never the judged one."""
    limits, expected = {}, 0.0
    for key, cost in rounding_costs(*precisions(model), images.float().numpy()):
        expected = max(expected, cost)
        limits[key] = accumulated_limit(expected)
    return limits


def channels_last(value: Tensor) -> Array:
    """(B, C, H, W) as (B, H, W, C), as differences are pictured."""
    return np.ascontiguousarray(value.detach().permute(0, 2, 3, 1).numpy())


def shape_of(run: ReferenceRun, layer: Layer) -> tuple[int, ...]:
    """(B, H, W, C)."""
    batch, channels, height, width = run.values[layer.key].shape
    return batch, height, width, channels
