"""Records of measurements on disk."""

from pathlib import Path
from typing import Any

from ...convert.output import replacing
from ...strict_json import json_text


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record of measurements as JSON. Raises OutputError when it cannot be written."""
    with replacing(path) as (file,):
        file.write_text(json_text(record, indent=1) + "\n", encoding="utf-8")
