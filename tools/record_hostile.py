"""Every reader beside inputs that are damaged or hostile: what is refused, what passes, and that nothing else happens.

    python tools/record_hostile.py

Each input is read in a process of its own, a fork of this one, which may take ten seconds and a gigabyte more than
before. Inputs are made by a seeded generator (`hostile_inputs.py`). Writes results/measured/hostile.json; exits with
status 1 when a reader crashed, hung, took too much, or left a file behind. Takes some minutes.
"""

import os
import pickle
import random
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from hostile_inputs import KINDS, Kind, damaged
from subjects import MEASURED

from effconv.errors import EffconvError
from effconv.parity.provenance import provenance
from effconv.parity.rendering.record import write_record

SEED = 0
INPUTS = 400  # of each kind
SECONDS = 10
MEMORY = 1 << 30  # bytes more than what this process has
LONGEST_MESSAGE = 2000  # characters
REFUSED, SAME, OTHER = "refused", "the same values", "other values"
BAD = ("crashed", "hung", "too much memory", "left a file", "a message too long")


def outcome(kind: Kind, folder: Path, sound: object) -> tuple[str, str]:
    """(what reading the damaged file came to, its message), in a process of its own."""
    receiving, sending = os.pipe()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    child = os.fork()
    if child == 0:
        os.close(receiving)
        with os.fdopen(sending, "wb") as pipe:
            pickle.dump(_read(kind, folder, sound), pipe)
        os._exit(0)
    os.close(sending)
    found = _awaited(child, receiving)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    return ("left a file", str(set(after) ^ set(before))) if after != before else found


def _read(kind: Kind, folder: Path, sound: object) -> tuple[str, str]:
    """In the child: nothing escapes but what happened."""
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = kind.read(folder)
    except EffconvError as error:
        found = REFUSED, str(error)
        if len(str(error)) > LONGEST_MESSAGE or str(error).count("\n") > 1:
            found = "a message too long", str(error)[:LONGEST_MESSAGE]
    except BaseException as error:  # noqa: BLE001  (whatever it is, it is what is looked for)
        found = "crashed", f"{type(error).__name__}: {str(error)[:200]}"
    else:
        found = (SAME if values == sound else OTHER), ""
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * 1024
    return ("too much memory", f"{taken / 1e6:.0f} MB") if taken > MEMORY else found


def _awaited(child: int, receiving: int) -> tuple[str, str]:
    with os.fdopen(receiving, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
        content = pipe.read() if ready else b""
    _, status = os.waitpid(child, 0)
    if not ready:
        return "hung", f"{SECONDS} s"
    return pickle.loads(content) if content else ("crashed", f"status {status}")  # noqa: S301  (of our own child)


def measure(kind: Kind) -> dict[str, Any]:
    """The row of one kind of input."""
    generator = random.Random(f"{SEED} {kind.name}")
    counts: Counter[str] = Counter()
    bad: list[dict[str, str]] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / kind.file).parent.mkdir(parents=True, exist_ok=True)
        kind.make(folder)
        sound, content = kind.read(folder), (folder / kind.file).read_bytes()
        for number in range(INPUTS):
            way, changed = damaged(content, kind, generator)
            (folder / kind.file).write_bytes(changed)
            what, message = outcome(kind, folder, sound)
            counts[what] += 1
            if what in BAD:
                bad.append({"input": str(number), "way": way, "outcome": what, "message": message})
    row = {"kind": kind.name, "inputs": INPUTS, **{what: counts[what] for what in (REFUSED, SAME, OTHER, *BAD)}}
    print(*row.values(), f"{time.monotonic() - start:.0f} s", *bad[:5], sep=" | ", flush=True)
    return row | {"bad": bad}


def main(*names: str) -> None:
    """Write the record of all kinds, or print what those named come to."""
    torch.set_num_threads(1)
    rows = [measure(kind) for kind in KINDS if not names or kind.name in names]
    if not names:
        result = {
            "what": "readers beside damaged and hostile inputs of a seeded generator",
            "command": "python tools/record_hostile.py",
            "limits": {"seconds": SECONDS, "bytes": MEMORY, "message_characters": LONGEST_MESSAGE},
            "provenance": provenance() | {"seed": SEED},
            "rows": rows,
        }
        write_record(result, MEASURED / "hostile.json")
    sys.exit(any(row["bad"] for row in rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
