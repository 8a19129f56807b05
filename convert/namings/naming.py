"""What a port's naming is: where each of our tensors is in its state dict, and what arithmetic lies between.

A port's own file has its paths (`paths.py`) and what is particular to it; `places` writes them out, a row per tensor of
the rule table, so that nothing is matched by pattern when converting.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ...effdet_torch.config import Config
from ..rules import Rule, rules
from .paths import Modules

OURS_EPSILON = 1e-3  # of batch norm, as TensorFlow's


class Place(NamedTuple):
    """One of our tensors in a port's state dict. Shapes are PyTorch's."""

    ours: str
    theirs: str
    shape: tuple[int, ...]  # of ours
    element: int | None = None  # where theirs is a vector of several of our scalars
    lacking: bool = False  # a bias that the port's class has no place for; zero, unless a file has it
    folded_bias: str = ""  # our bias, which the port's convolution lacks: taken off this running mean there
    added: float = 0.0  # to this running variance there, as the port's batch norm has another epsilon


class Naming(NamedTuple):
    """One port. `modules(config)` pairs the paths of modules; edge weights are vectors under their own path."""

    name: str  # as the command line takes it
    port: str  # as people know it
    modules: Callable[[Config], Modules]
    vectors: Callable[[Config], Modules]  # (path of our `edge_weights` list, key of their vector)
    signs: tuple[str, ...]  # keys that every file of this naming has, and no other naming's
    class_outputs: str  # the bias of the class outputs: its length tells the number of classes
    models: Callable[[Config], bool]  # which architectures the port has
    unused: Callable[[Config], Mapping[str, tuple[int, ...]]] = lambda config: {}  # theirs, with no use: {key: shape}
    lacks_bias: Callable[[str], bool] = lambda key: False  # of our convolution, by its bias's key
    epsilon: float = OURS_EPSILON
    functions: Callable[[Config], Modules] = lambda config: iter(())  # modules without tensors, paired as `modules`
    zero_padded_pool: bool = False  # its own network pads max-pooling with zeros: another function
    stranger: Callable[[Mapping[str, tuple[int, ...]]], str] = lambda shapes: ""  # which other network has such shapes
    other_boxes: Callable[[Config], str] = lambda config: ""  # why such a file's boxes are hardly coded as TensorFlow's
    notice: str = ""  # what else of the port's own network is to be known

    @property
    def own_function(self) -> bool:
        """Whether the port's own network computes another function with the same tensors."""
        return self.zero_padded_pool or self.epsilon != OURS_EPSILON


def places(naming: Naming, config: Config) -> tuple[Place, ...]:
    """Every tensor of the model, in the order of our state dict."""
    modules, vectors = dict(naming.modules(config)), dict(naming.vectors(config))
    return tuple(_place(naming, rule, modules, vectors) for rule in rules(config))


def as_text(namings: Iterable[Naming], config: Config) -> str:
    """The table as people review it: our key, then where each port that has the model keeps it, and what is done."""
    tables = [[f"{naming.name}:{_described(place)}" for place in places(naming, config)] for naming in namings]
    return "".join(f"{rule.torch}  {'  '.join(row)}\n" for rule, *row in zip(rules(config), *tables, strict=True))


def _described(place: Place) -> str:
    element = "" if place.element is None else f"[{place.element}]"
    lacking = " (lacking)" if place.lacking else ""
    folded = f" - {place.folded_bias}" if place.folded_bias else ""
    added = f" + {place.added:g}" if place.added else ""
    return f"{place.theirs}{element}{lacking}{folded}{added}"


def _place(naming: Naming, rule: Rule, modules: Mapping[str, str], vectors: Mapping[str, str]) -> Place:
    shape = rule.layout.torch_shape(rule.shape)
    path, _, tensor = rule.torch.rpartition(".")
    if path in vectors:
        return Place(rule.torch, vectors[path], shape, int(tensor))
    theirs = f"{modules[path]}.{tensor}"
    if naming.lacks_bias(rule.torch):
        return Place(rule.torch, theirs, shape, lacking=True)
    if tensor == "running_mean":
        bias = _bias_before(rule.torch)
        return Place(rule.torch, theirs, shape, folded_bias=bias if naming.lacks_bias(bias) else "")
    if tensor == "running_var":
        return Place(rule.torch, theirs, shape, added=OURS_EPSILON - naming.epsilon)
    return Place(rule.torch, theirs, shape)


def _bias_before(running_mean: str) -> str:
    """The bias of the convolution whose output a norm takes: in a BiFPN node and in a resample they lie beside it."""
    module = running_mean.removesuffix(".norm.running_mean")
    inner = "conv.bias" if ".resamples." in module or ".extra_levels." in module else "conv.pointwise.bias"
    return f"{module}.{inner}"
