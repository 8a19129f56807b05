"""Programs run in processes of their own, with their time and peak memory."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ...errors import EffconvError

SEED = 0
PROGRAMS = "effconv.parity.benchmarks.programs"
KIBIBYTE = 1024
MEGABYTE = 1e6


class Run(NamedTuple):
    """One finished process."""

    seconds: float
    peak_bytes: float
    output: str


def run_process(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Run:
    """Run a module as `python -m` does, to its end in a fresh process, in this process's environment or another.

    Raises EffconvError with its last words when it fails, and on systems without /proc, which tells its peak memory.
    """
    if not Path("/proc/self/status").exists():
        raise EffconvError("peak memory is read from /proc, which this system does not have; measure on Linux")
    with tempfile.TemporaryDirectory() as folder:
        peak = Path(folder) / "peak"
        command = [sys.executable, "-m", f"{PROGRAMS}.report_peak", str(peak), module, *arguments]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            begun = " ".join((module, *arguments[:2]))
            raise EffconvError(f"`python -m {begun}` failed with status {done.returncode}: {last[0]}")
        return Run(seconds, int(peak.read_text()) * KIBIBYTE, done.stdout)


def make_checkpoint(model: str, prefix: str) -> None:
    """Write a checkpoint of the released kind, random weights of SEED. Raises EffconvError as `run_process` does."""
    run_process(f"{PROGRAMS}.make_checkpoint", model, prefix, str(SEED))
