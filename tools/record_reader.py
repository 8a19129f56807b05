"""What a reader of the README waits for: its own commands, typed as they stand there, timed from start to end.

    python tools/record_reader.py

The way leads from an official checkpoint to converted weights, a verdict, an explained fault, drawn boxes and an
exported file, for D0. Files of the README's examples are made first: the checkpoint has made-up weights, from the
recipes in ../shared, and the picture is of ../shared/coco. Nothing is downloaded: where the README's line downloads the
checkpoint, `--ckpt` names it. Writes results/measured/reader.json; exits with status 1 where a command ends otherwise
than a reader may expect. Takes some two minutes.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from subjects import MEASURED, REPOSITORY, rebuild

from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record

SHARED = REPOSITORY.parent / "shared"
# A port with a mistake that real ports have: PyTorch's own epsilon in batch norm.
PORT = """import torch

import effconv


def build():
    model = effconv.load("efficientdet-d0.safetensors")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5
    return model
"""
NAMED = "batch-norm-epsilon"


class Step(NamedTuple):
    """What is reached, the README's line, what is added to it, the exit status, and what must be printed."""

    reached: str
    line: str
    added: str
    status: int
    said: str


STEPS = (
    Step("converted weights", "effconv tf2torch --model d0 --ckpt my-checkpoint/", "", 0, "-> efficientdet-d0.safe"),
    Step(
        "a verdict on every layer",
        "effconv parity --model d0 --ckpt efficientdet-d0/ --layerwise",
        "",
        0,
        "nothing changed on the way",
    ),
    Step(
        "an explained fault",
        "effconv parity --module mypackage.models:build --model d0 --explain",
        "--ckpt efficientdet-d0/",
        1,
        NAMED,
    ),
    Step("drawn boxes", "effconv predict street.jpg -o found/ --ckpt mine.safetensors", "", 0, "-> found"),
    Step(
        "an exported ONNX file",
        "effconv export onnx --ckpt run/model.safetensors -o mine.onnx",
        "",
        0,
        "mine.onnx",
    ),
)


def readme_commands() -> list[str]:
    """The lines of the README that begin with effconv, without their comments."""
    text = (REPOSITORY / "README.md").read_text()
    return [line.partition("#")[0].strip() for line in re.findall(r"(?m)^effconv .*$", text)]


def main() -> None:
    """Write the record, and exit with status 1 where a step did not end as it should."""
    written, load = readme_commands(), os.getloadavg()[0]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for step in STEPS:
            if step.line not in written:
                sys.exit(f"README.md has no line {step.line!r}")
            rows.append(timed(step, folder))
            print(rows[-1], flush=True)
            if step is STEPS[0]:
                weights = folder / "efficientdet-d0.safetensors"
                shutil.copy(weights, folder / "mine.safetensors")
                shutil.copy(weights, folder / "run" / "model.safetensors")
    record = {
        "what": "commands of the README, each a fresh process, from start to end",
        "command": "python tools/record_reader.py",
        "checkpoint": "efficientdet-d0, made-up weights",
        "rows": rows,
        "load_average_before": load,  # of the last minute; more than the processors of a busy machine
        "provenance": provenance(),
    }
    write_record(record, MEASURED / "reader.json")
    sys.exit(any(row["status"] != row["status_expected"] or not row["said"] for row in rows))


def prepare(folder: Path) -> None:
    """The files that the README's examples name."""
    rebuild("efficientdet-d0", SHARED, folder)
    shutil.copytree(folder / "efficientdet-d0", folder / "my-checkpoint")
    photograph = min((SHARED / "coco" / "val2017_66" / "val2017").glob("*.jpg"))
    shutil.copy(photograph, folder / "street.jpg")
    (folder / "mypackage").mkdir()
    (folder / "mypackage" / "models.py").write_text(PORT)
    (folder / "run").mkdir()


def timed(step: Step, folder: Path) -> dict[str, Any]:
    """A row of the record."""
    words = [*shlex.split(step.line), *shlex.split(step.added)]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    seconds = time.perf_counter() - began
    lines = [line.strip() for line in done.stdout.splitlines() if step.said in line]
    if done.returncode != step.status or not lines:
        print(done.stdout, done.stderr, file=sys.stderr)
    return {
        "reached": step.reached,
        "line": step.line,
        "added": step.added,
        "seconds": seconds,
        "status": done.returncode,
        "status_expected": step.status,
        "said": lines[0] if lines else "",
    }


if __name__ == "__main__":
    main()
