"""Records of measurements on disk."""

import json
from pathlib import Path
from typing import Any

from ...convert.output import replacing


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write a record of measurements as JSON. Raises OutputError when it cannot be written."""
    with replacing(path) as (file,):
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
