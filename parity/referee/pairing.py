"""Which module of another network computes which of our layers: by a port's table, by the user's, or by value.

By value there are two kinds of evidence. A module whose weight is that of one module of ours, and of no other, is that
module. And where a network is given our inputs, what equals one layer of ours and no other is that layer. Where
two fit, none is taken.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...convert.layers import Layer
from ...convert.namings.naming import Naming
from ...effdet_torch.config import Config
from ...effdet_torch.model import EfficientDet
from ...errors import first_names
from ..limits import FLOAT64_LIMIT
from .reference_run import ReferenceRun
from .settle import like, reference_of
from .taps import ModuleError, Tap, require_modules, run_tapped

SAMPLED = 64  # values that rule most pairs out before whole maps are compared


def by_table(naming: Naming, config: Config, table: tuple[Layer, ...], module: nn.Module) -> list[Tap]:
    """The pairs that a port's naming says. Raises ModuleError when the network lacks a module that has tensors."""
    tensors = {_own(ours): theirs for ours, theirs in naming.modules(config)}
    wanted = {layer.module for layer in table}
    require_modules(
        module, {ours: tensors[ours] for ours in tensors if ours in wanted}, f"not a network of {naming.port}"
    )
    paths = {path for path, _ in module.named_modules()}
    functions = {ours: theirs for ours, theirs in naming.functions(config) if theirs in paths}
    evidence = f"the naming table of {naming.port} says so"
    return [
        _tap(layer, path, config, evidence)
        for layer, path in _paired(table, functions | tensors)
        # A bias that a port's norm makes up for is not in its convolution: what the norm gives is the same.
        if not naming.lacks_bias(f"{layer.module}.bias")
    ]


def by_names(names: Mapping[str, str], config: Config, table: tuple[Layer, ...], module: nn.Module) -> list[Tap]:
    """The pairs that a user says: {our module's path: theirs}. Raises ModuleError for a name that neither side has."""
    known = {layer.module for layer in table}
    unknown = [ours for ours in names if ours not in known]
    if unknown:
        raise ModuleError(f"names: no layer of {config.name} is called {first_names(unknown)}")
    require_modules(module, names, "names")
    return [_tap(layer, path, config, "you say so") for layer, path in _paired(table, names)]


def by_weights(model: EfficientDet, table: tuple[Layer, ...], module: nn.Module) -> list[Tap]:
    """The pairs of modules whose `weight` is the same in float32, and no other module's on either side."""
    ours = _fingerprints(model)
    theirs = _fingerprints(module)
    pairs = {_own(path): theirs[print_] for print_, path in ours.items() if print_ in theirs}
    evidence = "its weight is ours"
    return [_tap(layer, path, model.config, evidence) for layer, path in _paired(table, pairs)]


def by_values(
    module: nn.Module, run: ReferenceRun, taps: list[Tap], limits: Mapping[str, float] | None = None
) -> list[Tap]:
    """More pairs, of layers without tensors: calls whose output equals one layer of ours while `taps` are given ours.

    `module` is in float64, or in float32 and what is equal is said by `limits`, by layer. A module inside another that
    gives the same tensor is taken, and not the outer one; nor one that hands on the values it is given, as what
    transposes a map of 1x1 does.
    """
    paired = {tap.layer.key for tap in taps}
    waiting = {layer.key: run.values[layer.key] for layer in distinct(run) if layer.key not in paired}
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for key, value in waiting.items():
        by_shape.setdefault(squeezed(value.shape), []).append(key)
    others = _untapped(module, taps)
    seen: dict[str, list[_Call]] = {}
    # By identity, and how often it was changed in place; kept, so that no tensor of this run takes another's place.
    given: dict[tuple[int, int], Tensor] = {}
    fitting: dict[str, set[tuple[int, int]]] = {}  # by layer, tensors that have its values

    def look_closely(path: str) -> Any:
        calls = iter(range(10**9))

        def hook(called: nn.Module, inputs: Any, output: Any) -> None:
            call = next(calls)
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return
            if _mark(output) in given:
                return
            given[_mark(output)] = output
            for key in by_shape.get(squeezed(output.shape), []):
                limit = FLOAT64_LIMIT if limits is None else limits[key]
                error = apart_within(output, waiting[key], limit)
                if error > limit:
                    continue
                fits = fitting.setdefault(key, set())
                if not any(_mark(each) in fits and _same_values(each, output) for each in inputs):
                    seen.setdefault(key, []).append(_Call(path, call, error))
                fits.add(_mark(output))

        return hook

    def hand_over(tap: Tap, output: Tensor) -> Tensor | None:
        ours = like(reference_of(run, tap.layer.key, output), output)
        if ours is not None:
            given[_mark(ours)] = ours
        return ours

    modules = dict(module.named_modules())
    handles = [modules[path].register_forward_hook(look_closely(path)) for path in others]
    try:
        run_tapped(module, run.images, taps, hand_over)
    finally:
        for handle in handles:
            handle.remove()
    claimed = Counter((call.module, call.number) for calls in seen.values() for call in calls)
    layers = {layer.key: layer for layer in run.table}
    return [
        Tap(layers[key], call.module, call.number, f"its values are ours to {call.error:.0e}")
        for key, calls in seen.items()
        for call in calls[:1]
        if len(calls) == 1 and claimed[call.module, call.number] == 1
    ]


def distinct(run: ReferenceRun) -> list[Layer]:
    """The layers that compute a value of their own: others hand on what one before them gave, unchanged."""
    first: dict[int, Layer] = {}
    for layer in run.table:
        first.setdefault(id(run.values[layer.key]), layer)
    return list(first.values())


def _untapped(module: nn.Module, taps: list[Tap]) -> list[str]:
    """Modules that may still be a layer: no tapped ones, and no parts of a tapped one that has tensors of its own."""
    modules = dict(module.named_modules())
    tapped = {tap.module for tap in taps}
    whole = tuple(f"{path}." for path in tapped if modules[path]._parameters or modules[path]._buffers)
    return [path for path in modules if path and path not in tapped and not path.startswith(whole)]


class _Call(NamedTuple):
    module: str
    number: int
    error: float


def _mark(given: Any) -> tuple[int, int]:
    """What tells a tensor, as it is now, from any other that is alive."""
    return id(given), getattr(given, "_version", 0)


def _same_values(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.reshape(-1), other.reshape(-1))


def _tap(layer: Layer, path: str, config: Config, evidence: str) -> Tap:
    # What all levels share is called once for each, lowest first.
    call = 0 if layer.level is None else config.levels.index(layer.level)
    return Tap(layer, path, call, evidence)


def _paired(table: tuple[Layer, ...], paths: Mapping[str, str]) -> Iterator[tuple[Layer, str]]:
    return ((layer, paths[layer.module]) for layer in table if layer.module in paths)


def _own(path: str) -> str:
    """The module whose output is the layer: a head's whole prediction stands for its pointwise convolution."""
    return path.removesuffix(".pointwise") if path.endswith(".predict.pointwise") else path


def _fingerprints(network: nn.Module) -> dict[bytes, str]:
    """{digest of a module's `weight`: its path}, of those that no other module of the network has.

    The weight alone: whether a port drops a bias or changes a variance is for the comparison to find.
    """
    found: dict[bytes, list[str]] = {}
    for path, module in network.named_modules():
        own = {**module._parameters, **module._buffers}
        weight = own.get("weight")
        if weight is None or weight.numel() < 2:
            continue
        values = weight.detach().cpu().to(torch.float32).contiguous().numpy()
        digest = hashlib.sha256(str(squeezed(weight.shape)).encode() + values.tobytes()).digest()
        found.setdefault(digest, []).append(path)
    return {digest: paths[0] for digest, paths in found.items() if len(paths) == 1}


def squeezed(shape: torch.Size) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def apart_within(output: Tensor, reference: Tensor, limit: float) -> float:
    """max |difference| by the reference's largest; infinite where a few values are already further apart."""
    theirs, ours = output.reshape(-1), reference.reshape(-1)
    step = max(1, ours.numel() // SAMPLED)
    scale = float(ours.abs().amax()) or 1.0
    if float((theirs[::step] - ours[::step]).abs().amax()) > limit * scale:
        return float("inf")
    return float((theirs - ours).abs().amax()) / scale
