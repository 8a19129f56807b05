"""Change one token of the code at a time, and record whether the tests notice.

    python tools/record_mutants.py [--count 200] [--seed 0] [--minutes M] [--module PATH]

A seeded sample of the one-token changes (`mutations.py`) of the modules in CORE. Each is run against the tests that
belong to its module: first `tests/<same folder>/test_<module>.py` and `test_<module>_*.py`, then the other files of
that folder and those that import the module by its name, themselves or through a module of tests/helpers. Those marked
`slow` or `tf` come last, and only of the first. A test that fails on the unchanged code too is left out. A mutant
counts as noticed when a test fails or never ends, and when nothing can be imported any more.

Work is done on a clone of the last commit in a temporary folder: changes that are not committed are not seen, and the
checkout is never touched. What was found is kept mutant by mutant in build/mutants.jsonl, and used again as long as the
module is the same and so are its tests, or the one that noticed. Cut off at any point, or by --minutes, the same
command goes on. Only a whole sample writes results/measured/mutants.json; exits with status 1 when less than ENOUGH of
the mutants that are not listed as equivalent (`equivalent_mutants.py`) are noticed. Takes about an hour.

Why not mutmut: it takes a module's name from its path, and this package's root is the checkout itself; and it changes
nothing outside functions, where limits and defaults are. Why not cosmic-ray: it changes the checkout in place, and has
one command of tests for all modules, in a new process for every mutant, which costs ten seconds of imports. Here every
mutant is a fork of one process that has imported the libraries and nothing of the package.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from equivalent_mutants import EQUIVALENT
from mutant_tests import run, tests_of
from mutations import Mutant, mutants

REPOSITORY = Path(__file__).resolve().parent.parent
FINDINGS = REPOSITORY / "build" / "mutants.jsonl"
CORE = (
    *("convert", "effdet_torch", "parity/ablation", "parity/comparison", "parity/datasets", "parity/evaluation"),
    *("parity/prediction", "parity/traces", "parity/difference.py", "parity/limits.py"),
)
ENOUGH = 0.95
LIBRARIES = ("torch", "numpy", "numba", "PIL", "h5py", "safetensors.torch", "rich.table", "click.testing", "hypothesis")
PLUGINS = ("_hypothesis_pytestplugin", "xdist.plugin", "playwright.sync_api")


def sample(root: Path, seed: int, count: int, chosen: str | None = None) -> list[Mutant]:
    """The first `count` mutants of CORE in an order that depends on each one's name and the seed alone.

    So a change of one module leaves the sample of the others as it is.
    """
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True, check=True)
    modules = [path for path in listed.stdout.split() if path.startswith(chosen or CORE)]
    found = [each for path in modules for each in mutants(path, (root / path).read_text())]
    return sorted(found, key=lambda each: hashlib.sha256(f"{seed} {each.name}".encode()).digest())[:count]


class Findings:
    """What was found so far, a line each: of a mutant or a test, and a digest of the files that it depends on."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = {row["name"]: row for row in map(json.loads, lines)}

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        """Keep a row, on disk too."""
        self.rows[row["name"]] = row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        return row


class Trials:
    """Mutants of a clone of the last commit, tried one after the other."""

    def __init__(self, root: Path, findings: Findings):
        self.root, self.findings = root, findings
        self.failing: set[str] = set()  # tests that fail on the unchanged code, as far as is known

    def tried(self, mutant: Mutant) -> dict[str, Any]:
        """How a mutant fared: noticed by which test, or "out of time", "crash", or by none (None)."""
        own, others = tests_of(mutant.module, self.root)
        row = self.findings.rows.get(mutant.name)
        if row and row["digest"] == self.digest([mutant.module, *(row["files"] or [*own, *others])]):
            return row
        noticed = None
        for files, stage in ((own, "quick"), (others, "quick"), (own, "slow")):
            noticed = noticed or (files and self.noticed(mutant, files, stage)) or None
        # What was noticed stays so as long as the test that noticed it does.
        decisive = [noticed.partition("::")[0]] if noticed and "::" in noticed else []
        row = {"name": mutant.name, "module": mutant.module, "line": mutant.line, "noticed": noticed, "files": decisive}
        return self.findings.add(row | {"digest": self.digest([mutant.module, *(decisive or [*own, *others])])})

    def noticed(self, mutant: Mutant, files: Sequence[str], stage: str) -> str | None:
        """Run tests on the mutant, again without those that turn out to fail on the unchanged code."""
        while True:
            with self.changed(mutant):
                outcome = run(self.root, files, stage, self.failing)
            failed = outcome["failed"]
            if outcome["status"] is None:
                return "out of time"
            if not failed:
                passed = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.INTERRUPTED)
                return None if outcome["status"] in passed else "crash"
            if "::" not in failed or self.passes(failed, stage):
                return str(failed)
            self.failing.add(failed)

    def passes(self, test: str, stage: str) -> bool:
        """Whether a test passes on the unchanged code."""
        digest = self.digest([test.partition("::")[0]])
        row = self.findings.rows.get(test)
        if not row or row["digest"] != digest:
            passes = run(self.root, [test], stage)["status"] == pytest.ExitCode.OK
            row = self.findings.add({"name": test, "passes": passes, "digest": digest})
        return bool(row["passes"])

    @contextlib.contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """The clone with the mutant in it."""
        path = self.root / mutant.module
        original = path.read_bytes()
        for text in (mutant.source.encode(), original):
            path.write_bytes(text)
            os.utime(path, (next(_TIMES),) * 2)  # compiled code is used again when time and size are the same
            if text is not original:
                yield

    def digest(self, files: Sequence[str]) -> str:
        """Of the contents of files."""
        return hashlib.sha256(b"".join((self.root / file).read_bytes() for file in files)).hexdigest()


_TIMES: Iterator[int] = iter(range(10**9, 2 * 10**9))


def clone(folder: Path) -> Path:
    """The last commit in a folder of the package's name."""
    root = folder / "effconv"
    subprocess.run(["git", "clone", "--quiet", "--shared", str(REPOSITORY), str(root)], check=True)
    return root


def summary(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The record: counts in all and by module, and every mutant that no test noticed."""
    by_module = {}
    for module in sorted({row["module"] for row in rows}):
        own = [row for row in rows if row["module"] == module]
        equivalent = [row for row in own if not row["noticed"] and row["name"] in EQUIVALENT]
        noticed = sum(bool(row["noticed"]) for row in own)
        by_module[module] = {"mutants": len(own), "noticed": noticed, "equivalent": len(equivalent)}
    unnoticed = [row["name"] for row in rows if not row["noticed"]]
    return {
        "what": "one-token changes of the code, and how many the tests notice",
        "command": f"python tools/record_mutants.py --count {len(rows)} --seed {seed}",
        "seed": seed,
        "mutants": len(rows),
        "noticed": sum(bool(row["noticed"]) for row in rows),
        "out_of_time": sum(row["noticed"] == "out of time" for row in rows),
        "modules": by_module,
        "equivalent": {name: EQUIVALENT[name] for name in unnoticed if name in EQUIVALENT},
        "unnoticed": [name for name in unnoticed if name not in EQUIVALENT],
    }


def main() -> None:
    """Try the sample; write the record when all of it was tried."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after these, to be gone on with")
    parser.add_argument("--module", help="mutants of modules whose path begins so; nothing is recorded")
    options = parser.parse_args()
    for name in (*LIBRARIES, *PLUGINS):
        importlib.import_module(name)
    os.environ.setdefault("EFFCONV_SHARED", str(REPOSITORY.parent / "shared"))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(clone(Path(folder)), Findings(FINDINGS))
        chosen = sample(trials.root, options.seed, options.count, options.module)
        rows = []
        for place, mutant in enumerate(chosen):
            if time.monotonic() - started > 60 * options.minutes:
                print(f"{place} of {len(chosen)} tried; the same command goes on")
                return
            rows.append(trials.tried(mutant))
            print(
                f"{place + 1}/{len(chosen)} {'noticed' if rows[-1]['noticed'] else 'NOT NOTICED'}: {mutant.name}",
                flush=True,
            )
    found = summary(rows, options.seed)
    print(*found["unnoticed"], sep="\n")
    if options.module is None:
        # Here, because nothing of the package may be imported before the last fork.
        from effconv.parity.provenance import provenance
        from effconv.parity.rendering.record import write_record

        write_record(found | {"provenance": provenance()}, REPOSITORY / "results" / "measured" / "mutants.json")
    sys.exit(found["noticed"] < ENOUGH * (found["mutants"] - len(found["equivalent"])))


if __name__ == "__main__":
    main()
