"""A forward pass as the plain list of its operations, run again without the modules that made them.

Between two operations of the fast form stand modules, shapes to look at and choices to make: a tenth of D0's time. What
they come to depends on the size of the images alone, so they are gone through once for each size.
"""

import keyword
import threading
import weakref
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Outputs = tuple[list[Tensor], list[Tensor]]
IMAGES = "images"
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
    for each in recorder.used.values():
        if id(each) not in known:
            raise ReplayError(f"a tensor of shape {tuple(each.shape)} is neither computed nor a constant")
    run = recorder.program(outputs)
    for part, other in zip(outputs, run(images), strict=True):
        if not all(_same_bits(one, two) for one, two in zip(part, other, strict=True)):
            raise ReplayError("the same operations gave something else")
    return run, outputs


def _same_bits(one: Tensor, two: Tensor) -> bool:
    return one.stride() == two.stride() and torch.equal(one.view(torch.int32), two.view(torch.int32))


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes every operation down as a line of a function of the images."""

    def __init__(self, images: Tensor):
        super().__init__()  # type: ignore[no-untyped-call]
        self.lines: list[str] = []
        self.values: dict[str, Any] = {}  # what the lines name beside what they compute: operations, types, tensors
        self.used: dict[str, Tensor] = {}  # the tensors among them
        self.read: dict[str, int] = {}  # the last line that reads what a line computes
        # By identity. A tensor that was freed may leave its own to another: hence the reference beside the name.
        self.names: dict[int, tuple[weakref.ref[Tensor], str]] = {}
        self.enter(images, IMAGES)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # for otherwise PyTorch imports its compiler, which takes as long as fifteen images

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [self.written(each) for each in args]
        named = {name: self.written(value) for name, value in (kwargs or {}).items()}
        if any(map(keyword.iskeyword, named)):
            raise ReplayError(f"{function} takes an argument that no line of Python can name")
        given += [f"{name}={value}" for name, value in named.items()]
        name = f"r{len(self.lines)}"
        self.lines.append(f"{name} = {self.value(function)}({', '.join(given)})")
        result = function(*args, **(kwargs or {}))
        parts = result if isinstance(result, (list, tuple)) else [result]
        if others := [type(each).__name__ for each in parts if not isinstance(each, Tensor)]:
            raise ReplayError(f"{function} gives a {others[0]}, which may be another the next time")
        if isinstance(result, Tensor):
            self.enter(result, name)
        else:
            for number, each in enumerate(result):
                self.read[name] = len(self.lines)
                part = f"r{len(self.lines)}"
                self.lines.append(f"{part} = {name}[{number}]")
                self.enter(each, part)
        return result

    def enter(self, tensor: Tensor, name: str) -> None:
        """`name` stands for `tensor` from now on."""
        self.names[id(tensor)] = weakref.ref(tensor), name

    def written(self, given: Any) -> str:
        """An argument of the next line."""
        if isinstance(given, Tensor):
            return self.tensor(given)
        if isinstance(given, (list, tuple)):
            return f"[{', '.join(map(self.written, given))}]"
        return repr(given) if given is None or isinstance(given, (bool, int, str)) else self.value(given)

    def tensor(self, given: Tensor) -> str:
        """What stands for `given` in the next line; one that was not computed is named for what it is."""
        entered = self.names.get(id(given))
        if entered is None or entered[0]() is not given:
            self.enter(given, self.value(given))
            self.used[self.names[id(given)][1]] = given
        name = self.names[id(given)][1]
        self.read[name] = len(self.lines)
        return name

    def value(self, given: Any) -> str:
        """The name of what is the same at every pass."""
        name = f"v{len(self.values)}"
        self.values[name] = given
        return name

    def program(self, outputs: Outputs) -> Callable[[Tensor], Outputs]:
        """The function; what it computes is let go after the last line that reads it."""
        result = ", ".join(f"[{', '.join(map(self.tensor, part))}]" for part in outputs)
        done: dict[int, list[str]] = {}
        for number in range(len(self.lines)):
            name = f"r{number}"
            done.setdefault(self.read.get(name, number), []).append(name)
        body = [f"def run({IMAGES}):"]
        for number, line in enumerate(self.lines):
            over = done.get(number, [])
            body += [f"    {line}", *([f"    del {', '.join(over)}"] if over else [])]
        scope = dict(self.values)
        exec("\n".join([*body, f"    return {result}"]), scope)
        return cast(Callable[[Tensor], Outputs], scope.pop("run"))  # else the two would keep each other
