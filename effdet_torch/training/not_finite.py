"""Where in a network values stop being finite, when a loss is not."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Place(NamedTuple):
    """The first layer, in order of computation, with values that are not finite, and the images they are of."""

    order: int
    layer: str  # its name in the network; "the input" where the images are so themselves
    images: tuple[int, ...]  # places in the batch


@torch.no_grad()
def first_not_finite(network: nn.Module, images: Tensor) -> Place | None:
    """Run `network`, in the mode it is in, on images (B, 3, H, W); None where every layer's values are finite."""
    # The network is run in any case: other processes may wait for this one's batch statistics.
    found = [] if images.isfinite().all() else [Place(0, "the input", _rows(images))]
    done = 0

    def look(name: str, made: Any) -> None:
        nonlocal done
        done += 1
        unsound = [value for value in _tensors(made) if not value.isfinite().all()]
        if unsound and not found:
            found.append(Place(done, name, _rows(unsound[0])))

    handles = [
        module.register_forward_hook(lambda module, given, made, name=name: look(name, made))
        for name, module in network.named_modules()
    ]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def first_not_finite_weight(network: nn.Module) -> str | None:
    """The name of the first parameter or buffer that is not finite."""
    state = network.state_dict()
    return next((name for name, value in state.items() if not value.isfinite().all()), None)


def _rows(values: Tensor) -> tuple[int, ...]:
    return tuple((~values.isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist())


def _tensors(made: Any) -> Iterator[Tensor]:
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, Sequence):
        for each in made:
            yield from _tensors(each)
