"""What installing effconv downloads, how much room and time it takes from an empty cache, and `make demo`.

    python tools/record_install.py

Every choice is installed into a virtual environment of its own, in two steps: `pip wheel` downloads, `pip install`
installs what was downloaded. Writes results/measured/install.json. Takes some ten minutes, and four gigabytes in the
folder for temporary files.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from subjects import MEASURED, REPOSITORY

from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record

LARGEST = 5  # packages that are named


class Choice(NamedTuple):
    """One way to install: what is given to pip, each a run of its own; SOURCE stands for the checkout."""

    name: str
    arguments: tuple[tuple[str, ...], ...]


SOURCE = "SOURCE"


def choices() -> list[Choice]:
    """What the documentation says to type."""
    return [
        Choice("converting alone", (converting_alone(), ("--no-deps", SOURCE))),
        Choice(".", ((SOURCE,),)),
        Choice(".[tf]", ((f"{SOURCE}[tf]",),)),
    ]


def converting_alone() -> tuple[str, ...]:
    """The packages that docs/convert.md names for converting without PyTorch."""
    text = (REPOSITORY / "docs" / "convert.md").read_text()
    section = text.partition("## Without PyTorch")[2]
    (packages,) = re.findall(r"(?m)^pip install -c constraints.txt ([\w -]+)$", section)
    return tuple(packages.split())


def main() -> None:
    """Write the record."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PIP_NO_CACHE_DIR"] = "1"
    load = os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "effconv"
        copy = ["git", "-C", str(REPOSITORY), "checkout-index", "--all", f"--prefix={source}/"]
        subprocess.run(copy, check=True)
        for number, choice in enumerate(choices()):
            rows.append(_installed(choice, source, Path(name) / str(number), environment))
            print(rows[-1], flush=True)
        demo = _demo(source, environment)
        # Before the folder is removed, which takes minutes on a busy disk.
        record = {
            "what": "installing effconv from an empty cache: megabytes downloaded and on disk, and seconds",
            "command": "python tools/record_install.py",
            "rows": rows,
            "demo": demo,
            "load_average_before": load,  # of the last minute; more than the processors of a busy machine
            "provenance": provenance(),
        }
        write_record(record, MEASURED / "install.json")


def _installed(choice: Choice, source: Path, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """What one choice comes to; `folder` is made."""
    python, wheels = folder / "environment" / "bin" / "python", folder / "wheels"
    subprocess.run([_base_python(), "-m", "venv", str(folder / "environment")], check=True, env=environment)
    empty = _bytes(folder / "environment")
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    began = time.perf_counter()
    for arguments in choice.arguments:
        given = [each.replace(SOURCE, str(source)) for each in arguments]
        limits = ["-c", str(source / "constraints.txt"), "--wheel-dir", str(wheels)]
        subprocess.run([*pip, "wheel", *limits, *given], check=True, env=environment)
    downloaded = time.perf_counter()
    files = sorted(wheels.glob("*.whl"), key=lambda file: -file.stat().st_size)
    install = ["install", "--no-index", "--no-deps", *map(str, files)]
    subprocess.run([*pip, *install], check=True, env=environment)
    installed = time.perf_counter()
    command = [str(python), "-m", "effconv", "models"]
    subprocess.run(command, check=True, env=environment, cwd=folder, stdout=subprocess.DEVNULL)
    others = [file for file in files if not file.name.startswith("effconv-")]
    row = {
        "choice": choice.name,
        "packages": len(others),
        "downloaded_bytes": sum(file.stat().st_size for file in others),
        "disk_bytes": _bytes(folder / "environment") - empty,
        "download_seconds": downloaded - began,
        "install_seconds": installed - downloaded,
        "largest": {file.name.partition("-")[0]: file.stat().st_size for file in others[:LARGEST]},
        "torch": next((file.name.split("-")[1] for file in others if file.name.startswith("torch-")), None),
    }
    for file in files:
        file.unlink()
    return row


def _demo(source: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of `make demo` in a fresh checkout: what it installs first, and the demo itself."""
    make = ["make", "--silent", "-C", str(source), f"PYTHON={_base_python()}"]
    began = time.perf_counter()
    subprocess.run([*make, ".venv/installed"], check=True, env=environment)
    installed = time.perf_counter()
    subprocess.run([*make, "demo"], check=True, env=environment)
    return {"install_seconds": installed - began, "demo_seconds": time.perf_counter() - installed}


def _base_python() -> str:
    """The interpreter that virtual environments are made with."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _bytes(folder: Path) -> int:
    """The size of all files below a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())


if __name__ == "__main__":
    main()
