"""Work that is killed (`kill -9`) at random moments and typed again: is the result the same, to the byte?

    python tools/record_kills.py

`tf2torch`, `eval`, `ablate` and `train` run as processes, are killed ten times each at moments drawn from a seed, and
are run again (with `--resume`, where they have it) until they end. Writes results/measured/kills.json; exits with
status 1 where a result differs. Takes some ten minutes.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from subjects import GOLDEN, MEASURED, REPOSITORY

from effconv.parity.datasets.shapes import write_shapes
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record
from effconv.strict_json import json_text

sys.path.insert(0, str(REPOSITORY / "tests" / "helpers"))
from training_runs import differing, killed_and_resumed, train, write_data, write_model

SEED = 0
KILLS = 10
DETECTOR = REPOSITORY / "examples" / "shapes"
TIMES = ("provenance", "command")  # of a record: when and how long, which no two runs share


class Work(NamedTuple):
    """A command, what it is run again with, and what it leaves, as text."""

    name: str
    arguments: Callable[[Path], list[str]]  # of the folder it works in
    again: tuple[str, ...]
    result: Callable[[Path], str]


def evaluated(folder: Path) -> list[str]:
    """The part that `eval` and `ablate` share."""
    return ["--coco", str(folder.parent), "--model", str(DETECTOR / "config.json"), "--ckpt", str(DETECTOR / "model")]


def rows_without_times(folder: Path) -> str:
    """An ablation's record without what no two runs share."""
    record = json.loads((folder / "ablations.json").read_text())
    rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in record["rows"]]
    return json_text({name: value for name, value in record.items() if name not in TIMES} | {"rows": rows})


WORK = (
    Work(
        "tf2torch",
        lambda folder: [
            *("tf2torch", "--model", str(GOLDEN / "tiny-swish" / "config.json")),
            *("--ckpt", str(GOLDEN / "tiny-swish"), "-o", str(folder / "x.safetensors")),
        ],
        (),
        lambda folder: (folder / "x.safetensors").read_bytes().hex() + (folder / "x.manifest.json").read_text(),
    ),
    Work(
        "eval",
        lambda folder: ["eval", *evaluated(folder), "--detections", str(folder / "detections.json")],
        ("--resume",),
        lambda folder: (folder / "detections.json").read_text(),
    ),
    Work(
        "ablate",
        lambda folder: [
            *("ablate", *evaluated(folder), "--limit", "100", "--record", str(folder / "ablations.json")),
            *("--no-same-maxpool", "--legacy-anchors", "--no-clip"),
        ],
        ("--resume",),
        rows_without_times,
    ),
)


def run(arguments: list[str], seconds: float | None = None) -> float | None:
    """Seconds of a run to its end; None where it was killed after `seconds`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "effconv.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # so that processes which it began are killed with it
    ) as process:
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments[:1])} ended with status {process.returncode}: {said}")
    return time.monotonic() - start


def measure(work: Work, data: Path) -> dict[str, Any]:
    """The row of one command: ten times begun, killed, and run again to its end."""
    whole = data / f"{work.name}-whole"
    whole.mkdir()
    took = run(work.arguments(whole))
    assert took is not None
    draws, killed, equal = random.Random(SEED), 0, 0
    for number in range(KILLS):
        folder = data / f"{work.name}-{number}"
        folder.mkdir()
        killed += run(work.arguments(folder), draws.uniform(0.1, 1) * took) is None
        run([*work.arguments(folder), *work.again])
        equal += work.result(folder) == work.result(whole) and left_over(folder) == left_over(whole)
    return {"command": work.name, "kills": KILLS, "killed_while_running": killed, "equal": equal}


def left_over(folder: Path) -> list[str]:
    """The names of all files but hidden ones: a process killed while it writes leaves its temporary file."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.startswith("."))


def measure_training(folder: Path) -> dict[str, Any]:
    """One training killed ten times, beside one that was never stopped."""
    data, model = write_data(folder / "pictures"), write_model(folder / "config.json")
    whole, other = folder / "whole", folder / "killed"
    train(data, model, whole)
    hit = killed_and_resumed(data, model, other, KILLS, SEED)
    equal = not differing(whole, other)
    return {"command": "train", "kills": KILLS, "killed_while_running": hit, "equal": KILLS if equal else 0}


def main() -> None:
    """Write the record; exit with status 1 where a result differs."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        write_shapes(data, "val2017", 120, 0, (120, 144))
        for work in WORK:
            rows.append(measure(work, data))
            print(rows[-1], flush=True)
    with tempfile.TemporaryDirectory() as name:
        rows.append(measure_training(Path(name)))
        print(rows[-1], flush=True)
    result = {
        "what": "commands killed at random moments and run again to their end, beside runs that were never stopped",
        "command": "python tools/record_kills.py",
        "provenance": provenance() | {"seed": SEED},
        "rows": rows,
    }
    write_record(result, MEASURED / "kills.json")
    sys.exit(any(row["equal"] != row["kills"] for row in rows))


if __name__ == "__main__":
    main()
