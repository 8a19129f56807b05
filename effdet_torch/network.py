"""What detecting needs of a network, whatever runs it: the model itself, its fast form or another runtime."""

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor, nn

from .config import Config


class Network(Protocol):
    """Called with images (B, 3, H, W), it gives two lists, lowest level first: class logits and box codes."""

    config: Config
    training: bool

    def __call__(self, images: Tensor, /) -> Any:
        """The outputs; `nn.Module` does not say of what type."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Of the first, callers read the type and the device that images are to be of."""
