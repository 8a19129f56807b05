"""Which node of an ONNX graph gives which of our layers: by its kernel, by its values, or by the nearest values.

An exporter's names say little, and norms may have been folded into kernels. A folded kernel is ours with each output's
part multiplied by a number, so its direction is still ours.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...convert.layers import Layer
from ...effdet_torch.model import EfficientDet
from ...errors import first_names
from .compare_module import Pass, compare_passes
from .graph_module import GraphModule
from .pairing import by_values, distinct, squeezed
from .reference_run import OUTPUTS, ReferenceRun
from .settle import like, reference_of
from .taps import ModuleError, Tap, run_tapped

# A folded kernel is rounded to float32 where it is folded: a part of it is off by at most two units of its largest
# value. Kernels of two layers, being learned apart, have nothing of the like in common.
KERNEL_LIMIT = 2.0**-22

# The mean of the distance from our values, of the mean of their distance from their own mean. It refuses a node that
# has nothing to do with the layer, which comes to 1 and more; zeros for minus infinity around a max-pool come
# to 0.01 to 0.1, bilinear upsampling for nearest to 0.1 to 0.4.
NEAR = 0.5
APART = 2.0  # and the next nearest must be this many times as far: where two fit, none is taken


def graph_taps(
    graph: GraphModule, model: EfficientDet, run: ReferenceRun, names: Mapping[str, str], limits: Mapping[str, float]
) -> list[Tap]:
    """Each layer of ours at most once, with the node that gives it, in the order of computation.

    `names` is {our layer's key: the tensor's name}, as somebody says. Raises ModuleError for names of no layer or
    tensor, and when the graph cannot be run.
    """
    taps = {tap.layer.key: tap for tap in _named(names, graph, run)}
    used = {tap.module for tap in taps.values()}
    shapes = _shapes(graph, run.images)
    for tap in _by_kernels(graph, model, run, shapes):
        if tap.module not in used:
            taps.setdefault(tap.layer.key, tap)
    if not taps:
        return []
    for tap in _outputs(graph, run, taps, shapes):
        taps.setdefault(tap.layer.key, tap)
    while True:
        for tap in by_values(graph, run, list(taps.values()), limits):
            taps.setdefault(tap.layer.key, tap)
        more = _nearest_before_faults(graph, run, [taps[key] for key in _ordered(taps, run)], limits)
        if not more:
            return [taps[key] for key in _ordered(taps, run)]
        taps.update({tap.layer.key: tap for tap in more})


def _named(names: Mapping[str, str], graph: GraphModule, run: ReferenceRun) -> Iterator[Tap]:
    layers = {layer.key: layer for layer in run.table}
    if unknown := [key for key in names if key not in layers]:
        raise ModuleError(f"names: no layer is called {first_names(unknown)}")
    if unknown := [name for name in names.values() if name not in graph.paths]:
        raise ModuleError(f"names: no node of the graph gives {first_names(unknown)}")
    return (Tap(layers[key], graph.paths[name], 0, "you say so") for key, name in names.items())


def _outputs(
    graph: GraphModule, run: ReferenceRun, taps: Mapping[str, Tap], shapes: Mapping[str, torch.Size]
) -> Iterator[Tap]:
    """Heads' last layers that no kernel says: what alone reads the layer before, where its shape is right."""
    paths = {graph.paths[name]: name for name in graph.paths}
    for before, layer in itertools.pairwise(run.table):
        tap = taps.get(before.key)
        if layer.module not in OUTPUTS or layer.key in taps or tap is None:
            continue
        readers = [path for path, node in graph.nodes() if paths[tap.module] in node.wanted()]
        if len(readers) == 1 and squeezed(shapes[readers[0]]) == squeezed(run.values[layer.key].shape):
            yield Tap(layer, readers[0], 0, "it alone reads the layer before")


def _by_kernels(
    graph: GraphModule, model: EfficientDet, run: ReferenceRun, shapes: Mapping[str, torch.Size]
) -> Iterator[Tap]:
    """Convolutions whose kernel is that of one module of ours, as it is or with the norm after it folded in."""
    theirs: dict[tuple[int, ...], list[_Kernel]] = {}
    for path, node in graph.nodes():
        if (kernel := node.kernel) is not None and path in shapes:
            found = _Kernel.of(path, kernel)
            theirs.setdefault(found.directions.shape, []).append(found)
    places = {layer.key: place for place, layer in enumerate(run.table)}
    rows: dict[str, list[Layer]] = {}
    for layer in run.table:
        rows.setdefault(layer.module, []).append(layer)
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is None or weight.ndim < 2:
            continue
        ours = _Kernel.of(path, weight.detach().cpu().numpy())
        fits = [each for each in theirs.get(ours.directions.shape, []) if each.has_directions_of(ours)]
        for layer in rows.get(path.removesuffix(".pointwise") if ".predict." in path else path, []):
            following = run.table[min(places[layer.key] + 1, len(run.table) - 1)]
            size = squeezed(run.values[layer.key].shape)
            here = [each for each in fits if squeezed(shapes[each.path]) == size]
            if len(here) != 1:
                continue
            if here[0].has_sizes_of(ours):
                yield Tap(layer, here[0].path, 0, "its kernel is ours")
            elif "norm" in following.module:
                yield Tap(following, here[0].path, 0, "its kernel is ours with the norm folded in")


class _Kernel(NamedTuple):
    """A kernel as a direction and a size for each output."""

    path: str
    directions: NDArray[np.float64]  # (outputs, the others' product), each row's largest value 1
    sizes: NDArray[np.float64]  # (outputs,)

    @classmethod
    def of(cls, path: str, kernel: NDArray[Any]) -> "_Kernel":
        rows = kernel.reshape(len(kernel), -1).astype(np.float64)
        sizes = rows[np.arange(len(rows)), np.abs(rows).argmax(1)]
        return cls(path, rows / np.where(sizes == 0, 1, sizes)[:, None], sizes)

    def has_directions_of(self, other: "_Kernel") -> bool:
        """Whether every output has the other's direction; outputs that are all zeros have none."""
        some = (self.sizes != 0) & (other.sizes != 0)
        same = np.abs(self.directions - other.directions)[some] <= KERNEL_LIMIT
        return bool(some.any() and same.all())

    def has_sizes_of(self, other: "_Kernel") -> bool:
        return bool((np.abs(self.sizes - other.sizes) <= KERNEL_LIMIT * np.abs(other.sizes)).all())


def _shapes(graph: GraphModule, images: Tensor) -> dict[str, torch.Size]:
    """{path: the shape of what it gives} of a run."""
    shapes: dict[str, torch.Size] = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            shapes[path] = output.shape

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in graph.nodes()]
    try:
        run_tapped(graph, images, [], lambda tap, output: None)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _off(values: Tensor, ours: Tensor) -> float:
    """The mean distance from our values, of the mean of their distance from their own mean."""
    spread = float((ours - ours.mean()).abs().mean()) or 1.0
    return float((values - ours).abs().mean()) / spread


def _ordered(taps: Mapping[str, Tap], run: ReferenceRun) -> list[str]:
    return [layer.key for layer in run.table if layer.key in taps]


def _nearest_before_faults(
    graph: GraphModule, run: ReferenceRun, taps: Sequence[Tap], limits: Mapping[str, float]
) -> list[Tap]:
    """Of the layers that stand, unpaired, right before one that differs: the first whose nearest node is near."""
    rows = compare_passes([Pass("float32 local", graph, limits)], run, taps)
    failing = {row.layer.key for row in rows if not row.ok}
    if not failing:
        return []
    paired, own = {tap.layer.key for tap in taps}, {layer.key for layer in distinct(run)}
    gaps: list[list[Layer]] = []
    right_before: list[Layer] = []
    before: list[Layer] = []  # of the same part of the network: in BiFPN a node reads many
    for layer in run.table:
        if before and before[-1].module.split(".")[0] != layer.module.split(".")[0]:
            before = []
        if layer.key in paired:
            if layer.key in failing:
                gaps += [[*right_before, *before]]
            right_before = []
        elif layer.key in own:
            right_before, before = [*right_before, layer], [*before, layer]
    distances = _distances(graph, run, taps, {layer.key for gap in gaps for layer in gap}, limits)
    found: dict[str, Tap] = {}
    for gap in gaps:
        for layer in gap:
            tap = _nearest(layer, distances)
            if tap and tap.module not in found:
                found[tap.module] = tap
                break  # what comes after it was given what differs
    return list(found.values())


Distances = Mapping[str, Mapping[str, float]]  # layer -> path of a node -> how far its values are from ours


def _nearest(layer: Layer, distances: Distances) -> Tap | None:
    ranked = sorted(distances[layer.key].items(), key=lambda item: item[1])
    if not ranked or ranked[0][1] > NEAR:
        return None
    path, nearest = ranked[0]
    others = [ranked[1][1]] if len(ranked) > 1 else []
    others += [of_layer[path] for key, of_layer in distances.items() if key != layer.key and path in of_layer]
    if others and min(others) < APART * nearest:
        return None
    return Tap(layer, path, 0, f"its values are nearest to ours, {nearest:.0e} off")


def _distances(
    graph: GraphModule, run: ReferenceRun, taps: Sequence[Tap], layers: Set[str], limits: Mapping[str, float]
) -> Distances:
    """Of every node that is none of ours, given our values before it; by the spread of ours."""
    tapped = {tap.module for tap in taps}
    exact: dict[tuple[int, ...], list[str]] = {}
    for key, value in run.values.items():
        exact.setdefault(squeezed(value.shape), []).append(key)
    found: dict[str, dict[str, float]] = {key: {} for key in layers}

    def measure(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            shape = squeezed(output.shape)
            wanted = [key for key in layers if squeezed(run.values[key].shape) == shape]
            if not wanted or not output.is_floating_point():
                return
            flat = output.reshape(-1).double()
            ours = {key: run.values[key].reshape(-1) for key in exact[shape]}
            # What is one of our layers is no other.
            if any(
                float((flat - each).abs().max()) <= limits[key] * float(each.abs().max()) for key, each in ours.items()
            ):
                return
            for key in wanted:
                values = [ours[key]]
                if key in run.unactivated:  # a norm's, before the activation that we count to it
                    values.append(run.unactivated[key].reshape(-1))
                found[key][path] = min(_off(flat, each) for each in values)

        return hook

    handles = [node.register_forward_hook(measure(path)) for path, node in graph.nodes() if path not in tapped]
    try:
        run_tapped(graph, run.images, taps, lambda tap, output: like(reference_of(run, tap.layer.key, output), output))
    finally:
        for handle in handles:
            handle.remove()
    return found
