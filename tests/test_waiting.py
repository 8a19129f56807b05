"""Threads that wait give up their processor soon, unless the environment says something else."""

import os
import subprocess
import sys

import pytest

from effconv.waiting import SETTINGS, SPINS

# What the command line leaves in the environment; `--version` ends by SystemExit.
PROGRAM = """
import os, runpy, sys
module, sys.argv = sys.argv[1], ["effconv", "--version"]
try:
    runpy.run_module(module, run_name="__main__")
except SystemExit:
    print([os.environ.get(name) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")], "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, [SPINS, None]),
        ({"GOMP_SPINCOUNT": "7"}, ["7", None]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, [None, "ACTIVE"]),
    ],
)
@pytest.mark.parametrize("module", ["effconv", "effconv.cli"])  # the second is what torchrun is given
def test_the_command_line_says_so_before_torch_is_imported(
    module: str, said: dict[str, str], expected: list[str | None]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | said
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == f"{expected} False"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PyTorch's builds for Linux have GNU OpenMP")
def test_it_is_the_openmp_of_this_pytorch_that_is_told() -> None:
    program = (
        "import torch; torch.ones(2**20).add(1); print(*{line.split('/')[-1] for line in open('/proc/self/maps')})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "libgomp" in done.stdout
    assert "libiomp" not in done.stdout
