"""What a reader needs to repeat a measurement."""

import os
import platform
import subprocess
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from ..version import __version__


def provenance() -> dict[str, Any]:
    """What a reader needs to repeat a measurement: versions, git commit, machine, threads."""
    versions = {name: version(name) for name in ("torch", "numpy", "tensorflow", "safetensors", "google-crc32c")}
    return {
        "effconv": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "versions": versions,
        "machine": platform.machine(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "device": "cpu",
    }


def version(name: str) -> str | None:
    """The installed version of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str | None:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def _git_commit() -> str | None:
    """The commit measured; "-dirty" is added when code or versions differ from it. None outside a checkout."""
    folder = Path(str(resources.files(__package__.partition(".")[0]))).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "*.py", "setup.cfg", "constraints.txt")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
