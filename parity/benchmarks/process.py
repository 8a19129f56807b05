"""Programs run in processes of their own, with their time and peak memory."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import EffconvError

SEED = 0
# A checkpoint of the released kind with random weights, scaled so that activations stay near one through any depth: a
# figure of memory or time does not depend on the weights, but infinities would end the comparison early.
MAKE_CHECKPOINT = """
import sys
from pathlib import Path
import numpy as np
from effconv.convert.conversion import write_checkpoint
from effconv.convert.rules import rules
from effconv.effdet_torch.config import get_config
config, random = get_config(sys.argv[1]), np.random.default_rng(int(sys.argv[3]))
def value(rule):
    shape = rule.layout.torch_shape(rule.shape)
    if rule.tf.endswith(("gamma", "moving_variance")):
        return random.uniform(0.8, 1.2, shape).astype(np.float32)
    spread = np.sqrt(np.prod(shape[1:])) if "kernel" in rule.tf else 10
    return (random.standard_normal(shape) / spread).astype(np.float32)
state = {rule.torch: value(rule) for rule in rules(config)}
write_checkpoint(state, state, config, Path(sys.argv[2]), "random values")
"""

# Runs a program (-c) or module (-m) and reports its own peak memory at the end. The system's figure for a finished
# child would not do: on Linux it is never below what the parent had.
REPORT_PEAK = """
import atexit, runpy, sys
path, kind, target, *rest = sys.argv[1:]
def report():
    with open("/proc/self/status") as status, open(path, "w") as output:
        output.write(next(line for line in status if line.startswith("VmHWM:")).split()[1])
atexit.register(report)
sys.argv = [target, *rest]
if kind == "-m":
    runpy.run_module(target, run_name="__main__", alter_sys=True)
else:
    exec(compile(target, "<program>", "exec"), {"__name__": "__main__"})
"""
KIBIBYTE = 1024
MEGABYTE = 1e6


class Run(NamedTuple):
    """One finished process."""

    seconds: float
    peak_bytes: float
    output: str


def run_process(arguments: Sequence[str]) -> Run:
    """Run a Python program (`-c code ...` or `-m module ...`) to its end in a fresh process.

    Raises EffconvError with its last words when it fails, and on systems without /proc, which tells its peak memory.
    """
    if not Path("/proc/self/status").exists():
        raise EffconvError("peak memory is read from /proc, which this system does not have; measure on Linux")
    with tempfile.TemporaryDirectory() as folder:
        peak = Path(folder) / "peak"
        command = [sys.executable, "-c", REPORT_PEAK, str(peak), *arguments]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise EffconvError(f"`python {' '.join(arguments[:3])}` failed with status {done.returncode}: {last[0]}")
        return Run(seconds, int(peak.read_text()) * KIBIBYTE, done.stdout)
