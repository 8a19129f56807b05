"""Whether kept results belong to the run that would go on with them: the one guard of everything that resumes."""

from collections.abc import Mapping
from typing import Any

SHOWN = 4  # of the values that differ, in a message


def changes(earlier: Any, now: Mapping[str, Any]) -> list[str]:
    """What differs between two runs, "batch was 4, now 8", value by value; none where results belong together.

    `earlier` is whatever was read; what is no mapping differs in everything.
    """
    before, after = _flat(earlier if isinstance(earlier, dict) else {}), _flat(now)
    return [
        f"{name.rpartition('.')[2]} was {before.get(name)!r}, now {after.get(name)!r}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def shown(differing: list[str]) -> str:
    """The first of them, for a message."""
    more = len(differing) - SHOWN
    return ", ".join(differing[:SHOWN]) + (f", and {more} more" if more > 0 else "")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a.b": value} of nested mappings."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
