"""A forward pass as the plain list of its operations, run again without the modules that made them.

Between two operations of the fast form stand modules, shapes to look at and choices to make: a tenth of D0's time. What
they come to depends on the size of the images alone, so they are gone through once for each size.
"""

import operator
import threading
import weakref
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

Outputs = tuple[list[Tensor], list[Tensor]]
SIZES = 4  # of which the operations are kept; a list of them is small, and writing it takes as long as a few images


class ReplayError(Exception):
    """A forward pass that is not a fixed list of operations on its input and the known constants."""


class Stage(Enum):
    """What is known of a shape of images that is not replayed."""

    BEGUN = "it was seen once"
    PLAIN = "it cannot be replayed"


class Replays:
    """Forward passes by the shape of their images: the first as it is, the second written down, then replayed."""

    def __init__(self) -> None:
        self.known: dict[torch.Size, Callable[[Tensor], Outputs] | Stage] = {}  # the last used comes last
        self.lock = threading.Lock()  # one thread at a time derives from the weights what all will use

    def __call__(
        self, images: Tensor, forward: Callable[[Tensor], Outputs], constants: Callable[[], Iterable[Tensor]]
    ) -> Outputs:
        """`forward(images)`, bit for bit; `images` (B, 3, H, W) may lie in memory in any way.

        `forward` is the same function at every call, whichever way that is, and `constants` gives all tensors that it
        may use beside its input.
        """
        shape = images.shape
        known = self.known.get(shape)
        if known is Stage.PLAIN:
            return forward(images)
        if callable(known):
            self.known.pop(shape, None)
            self.known[shape] = known
            return known(images)
        with self.lock:
            if self.known.get(shape) is Stage.BEGUN:
                try:
                    self.known[shape], outputs = recorded(forward, images, constants)
                except ReplayError:
                    self.known[shape], outputs = Stage.PLAIN, forward(images)
                return outputs
            outputs = forward(images)
            self.known.setdefault(shape, Stage.BEGUN)
            for oldest in list(self.known)[:-SIZES]:
                self.known.pop(oldest, None)
        return outputs


def is_watched(parts: Iterable[nn.Module]) -> bool:
    """Whether something wants to see or change what `parts` do, one by one: hooks, patches, autocast, other modes."""
    return (
        any(part._forward_hooks or part._forward_pre_hooks or "forward" in part.__dict__ for part in parts)
        or nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
    )


def recorded(
    forward: Callable[[Tensor], Outputs], images: Tensor, constants: Callable[[], Iterable[Tensor]]
) -> tuple[Callable[[Tensor], Outputs], Outputs]:
    """(`forward` for images of the shape of `images` (B, 3, H, W) as one function without branches, its outputs).

    `constants` gives, after a pass, all tensors that `forward` may use beside its input. The function is tried once:
    its outputs are those of `forward`, bit for bit. Raises ReplayError where they are not, and for other tensors.
    """
    recorder = _Recorder(images)
    with recorder:
        outputs = forward(images)
    known = {id(each) for each in constants()}
    for each in recorder.used:
        if id(each) not in known:
            raise ReplayError(f"a tensor of shape {tuple(each.shape)} is neither computed nor a constant")
    recorder.graph.output(tuple([recorder.node(each) for each in part] for part in outputs))
    run, used = fx.GraphModule({}, recorder.graph).forward, recorder.used
    again = run(images, *used)
    for part, other in zip(outputs, again, strict=True):
        if not all(_same_bits(one, two) for one, two in zip(part, other, strict=True)):
            raise ReplayError("the same operations gave something else")
    return lambda images: run(images, *used), outputs


def _same_bits(one: Tensor, two: Tensor) -> bool:
    return one.stride() == two.stride() and torch.equal(one.view(torch.int32), two.view(torch.int32))


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes every operation into `graph`, whose inputs are the images and what is in `used`."""

    def __init__(self, images: Tensor):
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.last_input = self.graph.placeholder("images")
        # By identity. A tensor that was freed may leave its own to another: hence the reference beside the node.
        self.nodes: dict[int, tuple[weakref.ref[Tensor], fx.Node]] = {}
        self.enter(images, self.last_input)
        self.used: list[Tensor] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # for otherwise PyTorch imports its compiler, which takes as long as fifteen images

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        node = self.graph.call_function(function, *tree_map_only(Tensor, self.node, (args, kwargs or {})))
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.enter(result, node)
        elif not isinstance(result, (list, tuple)):
            raise ReplayError(f"{function} gives a {type(result).__name__}, which may be another the next time")
        else:
            for number, each in enumerate(result):
                self.enter(each, self.graph.call_function(operator.getitem, (node, number)))
        return result

    def enter(self, tensor: Tensor, node: fx.Node) -> None:
        """`node` stands for `tensor` from now on."""
        self.nodes[id(tensor)] = weakref.ref(tensor), node

    def node(self, tensor: Tensor) -> fx.Node:
        """What stands for `tensor` in the graph; one that was not computed becomes an input."""
        entered = self.nodes.get(id(tensor))
        if entered is not None and entered[0]() is tensor:
            return entered[1]
        with self.graph.inserting_after(self.last_input):
            self.last_input = self.graph.placeholder(f"constant{len(self.used)}")
        self.used.append(tensor)
        self.enter(tensor, self.last_input)
        return self.last_input
