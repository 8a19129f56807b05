"""What `effconv parity` compares, as its options say."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import fetch_release, parse_size

if TYPE_CHECKING:
    from ..parity.comparison.subject import Choice


def choice_of(chosen: dict[str, Any]) -> "Choice":
    """The subject; `chosen` are options by their fields of `Choice`, but for `ckpt`, and `size` as it was typed."""
    from ..parity.comparison.subject import Choice

    others = {name: value for name, value in chosen.items() if name not in ("ckpt", "size")}
    size = parse_size(chosen["size"]) if chosen["size"] else None
    return Choice(checkpoint=chosen["ckpt"], size=size, **others)


def releases(generation: str | None, verify: bool) -> Callable[[str], Path]:
    """What downloads the released checkpoint of a model."""
    return lambda model: fetch_release(model, generation, verify)
