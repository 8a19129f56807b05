"""Which tests belong to a module, and pytest run on them in a fork of this process: for `record_mutants.py`."""

import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

STAGES = {"quick": "not slow and not tf", "slow": "slow or tf"}
LONGEST = 120  # seconds, after which no other test is started: then nothing was noticed
ENDLESS = 180  # seconds, after which a test is taken to run for ever
MEMORY = 8 << 30  # bytes: a mutant may ask for any amount


def tests_of(module: str, root: Path) -> tuple[list[str], list[str]]:
    """The files of tests named after a module, then its folder's and those that import it by name, short ones first."""
    path = Path(module)
    folder = root / "tests" / path.parent
    own = sorted({*folder.glob(f"test_{path.stem}.py"), *folder.glob(f"test_{path.stem}_*.py")})
    parent = r"\.".join(("effconv", *path.parent.parts))
    named = re.compile(rf"\b{parent}\.{path.stem}\b|from {parent} import (?:\([^)]*|[^\n]*)\b{path.stem}\b")
    helpers = [each.stem for each in (root / "tests" / "helpers").glob("*.py") if named.search(each.read_text())]
    wanted = re.compile("|".join([named.pattern, *(rf"from {each} import" for each in helpers)]))
    files = (each for each in sorted((root / "tests").rglob("test_*.py")) if each not in own)
    others = [each for each in files if each.parent == folder or wanted.search(each.read_text())]
    others.sort(key=lambda each: (each.parent != folder, each.stat().st_size))
    own_names, other_names = ([each.relative_to(root).as_posix() for each in of] for of in (own, others))
    return own_names, other_names


class Watcher:
    """A plugin of pytest's that leaves tests out, stops when time is up, and keeps the first failure."""

    def __init__(self, left_out: Collection[str]):
        self.left_out, self.failed = left_out, ""
        self.started = time.monotonic()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what is to be left out."""
        items[:] = [each for each in items if each.nodeid not in self.left_out]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails, or cannot be prepared."""
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported."""
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Start no other test once time is up."""
        if time.monotonic() - self.started > LONGEST:
            item.session.shouldstop = "time is up"


def run(root: Path, tests: Sequence[str], stage: str, left_out: Collection[str] = ()) -> dict[str, Any]:
    """pytest in a fork of this process until a test fails: its exit status and the test that failed.

    Status None means that a test never came to its end, -1 that the process died, as by a crash in a library.
    """
    result = root.parent / "result.json"
    result.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            _test(root, tests, stage, left_out, result)
        finally:
            os._exit(70)
    started = time.monotonic()
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() - started > LONGEST + ENDLESS:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"status": None, "failed": ""}
        time.sleep(0.02)
    return json.loads(result.read_text()) if result.exists() else {"status": -1, "failed": ""}


def _test(root: Path, tests: Sequence[str], stage: str, left_out: Collection[str], result: Path) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with (root.parent / "output.txt").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root.parent)
    sys.path[:0] = [str(root.parent)]
    watcher = Watcher(left_out)
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", STAGES[stage], f"--basetemp={root.parent / 'tests'}"]
    status = pytest.main([*options, *tests], plugins=[watcher])
    result.write_text(json.dumps({"status": int(status), "failed": watcher.failed}))
    os._exit(0)
