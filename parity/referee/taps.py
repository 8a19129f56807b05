"""Where another network computes our layers: a tap is a layer, and the call of a module of theirs that gives it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...convert.layers import Layer
from ...errors import EffconvError


class Tap(NamedTuple):
    """One layer of ours, and where theirs is."""

    layer: Layer
    module: str  # path of their module
    call: int  # which call of it, from 0: heads are shared by all levels
    evidence: str  # why the two are taken to be the same layer


Look = Callable[[Tap, Tensor], Tensor | None]  # their output -> what takes its place; None: it stays


class ModuleError(EffconvError):
    """A network that cannot be run, or is not what it was said to be."""


def run_tapped(module: nn.Module, images: Tensor, taps: Iterable[Tap], look: Look) -> list[Tap]:
    """Run another network on `images` (B, 3, H, W), and show each tap's output to `look`; the taps never reached.

    Raises ModuleError when the network itself raises, or a tap's module gives no tensor.
    """
    waiting: dict[str, dict[int, Tap]] = {}
    for tap in taps:
        waiting.setdefault(tap.module, {})[tap.call] = tap
    modules = dict(module.named_modules())
    calls: dict[str, int] = dict.fromkeys(waiting, 0)
    looking = False

    def watch(path: str) -> Any:
        def hook(called: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            nonlocal looking
            tap = waiting[path].pop(calls[path], None)
            calls[path] += 1
            if tap is None:
                return None
            if not isinstance(output, Tensor):
                kind = type(output).__name__
                raise ModuleError(f"{path or 'the module'}: expected to give one tensor, as a layer does; found {kind}")
            looking = True
            given = look(tap, output)
            looking = False
            return given

        return hook

    handles = [modules[path].register_forward_hook(watch(path)) for path in waiting]
    try:
        with torch.no_grad():  # not inference mode, which does not count changes in place
            module(images)
    except Exception as error:
        if looking or isinstance(error, EffconvError):  # not the network's own
            raise
        line = (str(error).splitlines() or [""])[0]
        shape = "x".join(map(str, images.shape))
        raise ModuleError(
            f"{type(module).__name__} on images of {shape} stopped: {type(error).__name__} {line}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return [tap for of_module in waiting.values() for tap in of_module.values()]


def require_modules(module: nn.Module, taps: Mapping[str, str], what: str) -> None:
    """Raises ModuleError unless every module path in `taps` (our layer's key: theirs) is one of `module`'s."""
    paths = {path for path, _ in module.named_modules()}
    lacking = [f"{theirs} (for {ours})" for ours, theirs in taps.items() if theirs not in paths]
    if lacking:
        more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise ModuleError(f"{what}: {type(module).__name__} has no module {lacking[0]}{more}")
