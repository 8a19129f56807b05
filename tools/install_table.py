"""What installing takes: a sentence for the README, and a table."""

from collections.abc import Mapping
from typing import Any

from effconv.parity.rendering.markdown import markdown_table

NAMES = {"converting alone": "converting alone, without PyTorch", ".": "`.`", ".[tf]": "`.[tf]`"}
COLUMNS = ("installed", "packages", "download", "on disk", "time after the download")

Record = Mapping[str, Any]


def install_summary(record: Record) -> str:
    """The record of `record_install.py` in two sentences."""
    rows = _by_choice(record)
    plain, full, demo = rows["."], rows[".[tf]"], record["demo"]
    seconds = demo["install_seconds"] + demo["demo_seconds"]
    return (
        f"`.` downloads {_megabytes(plain['downloaded_bytes'])} and takes {_megabytes(plain['disk_bytes'])} on disk, "
        f"`.[tf]` {_megabytes(full['downloaded_bytes'])} and {_megabytes(full['disk_bytes'])} "
        f"(PyTorch {plain['torch']}). From an empty cache, `make demo` took {seconds:.0f} seconds{_where(record)}."
    )


def install_table(record: Record) -> str:
    """A row per choice, and a sentence on `make demo`."""
    rows = [
        [
            NAMES[name],
            str(row["packages"]),
            _megabytes(row["downloaded_bytes"]),
            _megabytes(row["disk_bytes"]),
            f"{row['install_seconds']:.0f} s",
        ]
        for name, row in _by_choice(record).items()
    ]
    demo, plain = record["demo"], _by_choice(record)["."]
    return (
        f"{markdown_table(COLUMNS, rows)}\n\nWith PyTorch {plain['torch']}. `make demo` downloads what `.` does. "
        f"It took {demo['install_seconds']:.0f} seconds to download and install, and {demo['demo_seconds']:.0f} to run"
        f"{_where(record)}."
    )


def _where(record: Record) -> str:
    return " on a busy machine" if record["load_average_before"] > record["provenance"]["processors"] else ""


def _by_choice(record: Record) -> dict[str, Record]:
    return {row["choice"]: row for row in record["rows"]}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
