"""Records of damaged inputs and of killed commands as the tables of docs/reliability.md."""

from collections.abc import Mapping
from typing import Any

from ..rendering.markdown import markdown_table


def hostile_table(record: Mapping[str, Any]) -> str:
    """`tools/record_hostile.py`: a row per kind of input."""
    limits = record["limits"]
    heading = (
        *("input", "tried", "refused", "passed with the same values", "passed with other values"),
        *("crashed", "hung", "too much memory", "file left behind", "message too long"),
    )
    names = ("inputs", "refused", "the same values", "other values")
    bad = ("crashed", "hung", "too much memory", "left a file", "a message too long")
    rows = [[row["kind"], *(row[name] for name in (*names, *bad))] for row in record["rows"]]
    total = sum(row["inputs"] for row in record["rows"])
    return "\n".join(
        [
            markdown_table(heading, rows),
            "",
            f"{total:,} inputs in all. Hung: {limits['seconds']} s. Too much memory: {limits['bytes'] / 2**30:.0f} GiB "
            f"more than before. Too long: more than two lines or {limits['message_characters']:,} characters.",
        ]
    )


def kills_table(record: Mapping[str, Any]) -> str:
    """`tools/record_kills.py`: a row per command."""
    rows = [
        [f"`{row['command']}`", row["kills"], row["killed_while_running"], f"{row['equal']} of {row['kills']}"]
        for row in record["rows"]
    ]
    return markdown_table(("command", "kills", "of them while it ran", "same result, to the byte"), rows)
