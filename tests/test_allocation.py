"""Large blocks that are freed are reused: the system is not asked for their pages again."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from effconv.allocation import keep_freed_memory

def faults_of_ten():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(16 * 1024 * 1024)  # 64 MiB, above what malloc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults_of_ten()
kept = keep_freed_memory()
faults_of_ten()  # until the holes between small blocks are large enough
print(kept, given_back, faults_of_ten())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is glibc's malloc that is told")
def test_large_blocks_are_reused() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, given_back, reused = done.stdout.split()
    assert kept == "True"
    assert int(given_back) > 100 * (int(reused) + 1)
