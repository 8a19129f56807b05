"""What a reader of the README waits for: a table."""

from collections.abc import Mapping
from typing import Any

from effconv.parity.rendering.markdown import markdown_table

COLUMNS = ("reached", "command", "seconds", "exit status")


def reader_table(record: Mapping[str, Any]) -> str:
    """The record of `record_reader.py`: a row per command, and what was added to those that download."""
    rows = [[row["reached"], f"`{row['line']}`", f"{row['seconds']:.0f}", str(row["status"])] for row in record["rows"]]
    busy = record["load_average_before"] > record["provenance"]["processors"]
    machine = record["provenance"]
    processors = f"{machine['processors']} processors ({machine['processor'] or machine['machine']})"
    added = " and ".join(f"`{row['added']}`" for row in record["rows"] if row["added"])
    return (
        f"{markdown_table(COLUMNS, rows)}\n\n{record['checkpoint']}, on {processors}{', busy' if busy else ''}. "
        f"Instead of a download, one command had {added}."
    )
