"""What float32 can cost a gradient: a backward pass in float64 in which whatever goes from module to module is rounded.

The candidate's own float32 gradients have no part in it, so that a fault of its backward pass in float32 cannot widen
its own limit.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

# How far a module's float32 output or input may be from float64's, of its largest: 64 roundings. Clean networks stay
# within a few. A map that is farther away is not taken, so that a fault of the forward pass widens no gradient's limit.
FORWARD_LIMIT = 2.0**-18

Recorded = dict[str, list[Tensor]]  # float32 maps in the order of the calls, by module and side
Network = TypeVar("Network", bound=nn.Module)


def record_maps(network: Network) -> tuple[Network, Recorded]:
    """`network`, which now keeps every tensor that enters or leaves one of its modules."""
    kept: Recorded = {}

    def keep(place: str, x: Tensor) -> Tensor:
        kept.setdefault(place, []).append(x.detach())
        return x

    return _watched(network, keep), kept


def round_maps(network: Network, recorded: Mapping[str, list[Tensor]]) -> Network:
    """`network`, in float64, in which gradients are rounded to float32 between modules and maps are the recorded ones.

    The forward pass is taken as float32 made it because relu, relu6 and max-pooling decide by it where a gradient
    goes: a value that float32 puts on the other side changes gradients by far more than rounding does.
    """
    left: dict[str, Iterator[Tensor]] = {place: iter(maps) for place, maps in recorded.items()}

    def rounded(place: str, x: Tensor) -> Tensor:
        found = next(left.get(place, iter(())), None)
        found = x.detach().float() if found is None or found.shape != x.shape else found
        return _Rounded.apply(x, found)  # type: ignore[no-any-return,no-untyped-call]

    return _watched(network, rounded)


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, single: Tensor) -> Tensor:
        found = single.double()
        near = (found - x).abs().max() <= x.abs().max() * FORWARD_LIMIT
        return found if near else x.float().double()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.float().double(), None


def _watched(network: Network, see: Any) -> Network:
    """`network` with see(place, tensor) in place of every tensor that enters or leaves a module; lists stay."""

    def at(place: str, value: Any) -> Any:
        return see(place, value) if isinstance(value, Tensor) else value

    def entering(name: str) -> Any:
        return lambda module, inputs: tuple(at(f"into {name}", value) for value in inputs)

    def leaving(name: str) -> Any:
        return lambda module, inputs, output: at(f"out of {name}", output)

    for name, module in network.named_modules():
        module.register_forward_pre_hook(entering(name))
        module.register_forward_hook(leaving(name))
    return network
