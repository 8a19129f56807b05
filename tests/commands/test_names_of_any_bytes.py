"""A file's name that is no text in the terminal's encoding does not end a command that has done its work."""

import os
import subprocess
import sys
from pathlib import Path


def test_a_name_that_is_not_utf8_is_printed_by_its_bytes(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"ab\xe9")
    command = [sys.executable, "-m", "effconv", "shapes", "-o", str(folder), "--images", "1"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "ab\\udce9" in done.stdout
    assert folder.is_dir()
