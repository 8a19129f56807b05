"""What installing takes, as the README's table."""

from collections.abc import Mapping
from typing import Any

from effconv.parity.rendering.markdown import markdown_table

NAMES = {"converting alone": "converting alone, without PyTorch", ".": "`.`", ".[tf,report]": "`.[tf,report]`"}


def install_table(record: Mapping[str, Any]) -> str:
    """The record of `record_install.py`: a row per choice, and a sentence on `make demo`."""
    rows = [
        [
            NAMES[row["choice"]],
            str(row["packages"]),
            _megabytes(row["downloaded_bytes"]),
            _megabytes(row["disk_bytes"]),
            f"{row['install_seconds']:.0f} s",
        ]
        for row in record["rows"]
    ]
    table = markdown_table(("installed", "packages", "download", "on disk", "time without the download"), rows)
    (plain,) = (row for row in record["rows"] if row["choice"] == ".")
    (torch,) = {row["torch"] for row in record["rows"]} - {None}
    demo, download = record["demo"], _megabytes(plain["downloaded_bytes"])
    seconds = demo["install_seconds"] + demo["demo_seconds"]
    return (
        f"{table}\n\nWith PyTorch {torch}. `make demo` downloads what `.` does ({download}); "
        f"it took {seconds:.0f} seconds from an empty cache, {demo['demo_seconds']:.0f} of them the demo's."
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
