"""JSON as its standard has it, without NaN and infinity: the one place that writes it."""

import json
import math
from typing import Any


def json_text(
    value: Any, *, indent: int | None = None, separators: tuple[str, str] | None = None, sort_keys: bool = False
) -> str:
    """Plain values as JSON. Raises ValueError for NaN and infinity, for which JSON has no word: say None (`finite`)."""
    return json.dumps(value, allow_nan=False, indent=indent, separators=separators, sort_keys=sort_keys)


def as_read(value: Any) -> Any:
    """What reading the JSON of `value` gives: tuples are lists, and keys text. Raises ValueError as `json_text`."""
    return json.loads(json_text(value))


def finite(value: float) -> float | None:
    """The value; None for NaN and infinity."""
    return value if math.isfinite(value) else None
