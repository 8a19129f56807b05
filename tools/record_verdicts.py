"""Plant every known wrong result against the verdict that must refuse it, and record whether it does.

    python tools/record_verdicts.py

Each row of `plants.py` names a verdict, a wrong result and the tests that make that wrong result and assert that it is
refused. They are run here, one pytest for all. Writes results/measured/verdicts.json; exits with status 1 when one is
not refused. Takes about fifteen minutes.
"""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from plants import PLANTS
from subjects import MEASURED, REPOSITORY

from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record


def test_file(name: str) -> str:
    """Where the file of tests of that name lies, from the root of the checkout."""
    (found,) = (REPOSITORY / "tests").rglob(f"test_{name}.py")
    return found.relative_to(REPOSITORY).as_posix()


def main() -> None:
    """Write the record; exit with status 1 when a wrong result is not refused."""
    paths = {file: test_file(file) for _, _, file, _ in PLANTS}
    nodes = list(dict.fromkeys(f"{paths[file]}::{test}" for _, _, file, test in PLANTS))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "--dist",
            "loadfile",
            f"--junitxml={report}",
            *nodes,
        ]
        subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        cases = list(ElementTree.parse(report).iter("testcase"))
    rows: list[dict[str, Any]] = []
    for verdict, wrong, file, test in PLANTS:
        found = [
            case
            for case in cases
            if case.get("classname", "").endswith(f"test_{file}") and case.get("name", "").partition("[")[0] == test
        ]
        refused = sum(case.find("failure") is None and case.find("error") is None for case in found)
        skipped = sum(case.find("skipped") is not None for case in found)
        rows.append(
            {
                "verdict": verdict,
                "wrong_result": wrong,
                "test": f"{paths[file]}::{test}",
                "planted": len(found),
                "refused": refused - skipped,
            }
        )
    result = {
        "what": "wrong results planted against every verdict, and how many were refused",
        "command": "python tools/record_verdicts.py",
        "provenance": provenance(),
        "rows": rows,
    }
    write_record(result, MEASURED / "verdicts.json")
    missed = [row for row in rows if not row["planted"] == row["refused"] > 0]
    print(*missed, sep="\n")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
