"""Trainings of a tiny model on drawn pictures by the command line: whole, killed, and gone on with."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from effconv.cli import main

SWISH = Path(__file__).parent.parent / "golden" / "tiny-swish"
SIZE = 96
IMAGES, EPOCHS, STEPS = 8, 3, 4  # of each epoch
RESULTS = "steps.csv", "evaluations.csv", "model.safetensors", "raw.safetensors"


def write_data(folder: Path) -> Path:
    """Eight drawn pictures to train on, and four to evaluate on."""
    for split, images in (("train2017", IMAGES), ("val2017", 4)):
        arguments = ["shapes", "-o", folder, "--images", images, "--split", split, "--size", f"{SIZE}x{SIZE}"]
        assert CliRunner().invoke(main, [str(each) for each in arguments]).exit_code == 0
    return folder


def write_model(path: Path) -> Path:
    """The tiny model for the pictures: a class for each of their ids, and a smaller input."""
    values = json.loads((SWISH / "config.json").read_text())
    path.write_text(json.dumps({**values, "name": "small", "num_classes": 11, "image_size": [SIZE, SIZE]}))
    return path


def options(data: Path, model: Path, out: Path, *more: object) -> list[str]:
    """The options of a training of twelve steps."""
    given = ["--data", data, "--model", model, "--out", out, "--epochs", EPOCHS, "--batch", 2, "--workers", 0]
    return [str(each) for each in (*given, "--jitter", 0.5, 1.5, "--survival", 0.9, *more)]


def train(data: Path, model: Path, out: Path, *more: object) -> Result:
    """`effconv train` in this process."""
    return CliRunner().invoke(main, ["train", *options(data, model, out, *more)])


def differing(one: Path, other: Path) -> list[str]:
    """The results that are not the same to the byte in two trainings' folders."""
    return [name for name in RESULTS if (one / name).read_bytes() != (other / name).read_bytes()]


class Moment(NamedTuple):
    """When to kill a training: so many seconds after so many lines are in its log."""

    lines: int
    seconds: float


def moments(number: int, seed: int) -> Iterator[Moment]:
    """Moments all over a training, drawn from a seed."""
    draws = random.Random(seed)
    for _ in range(number):
        yield Moment(draws.randrange(1, EPOCHS * STEPS - 1), draws.uniform(0, 0.3))


def killed_at(moment: Moment, log: Path, command: list[str]) -> bool:
    """Run `effconv` with these arguments in a process and SIGKILL it then; False when it had ended before."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-m", "effconv.cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") <= moment.lines):
            time.sleep(0.01)
        time.sleep(moment.seconds)
        process.send_signal(signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


def killed_and_resumed(data: Path, model: Path, out: Path, number: int, seed: int) -> int:
    """A training killed at so many random moments and then gone on with to its end: how many kills hit it running."""
    hit = 0
    for moment in moments(number, seed):
        more = ["--keep-every", 3, *(["--resume"] if (out / "run.json").exists() else [])]
        hit += killed_at(moment, out / "steps.csv", ["train", *options(data, model, out, *more)])
    result = train(data, model, out, *(["--resume"] if (out / "run.json").exists() else []))
    assert result.exit_code == 0, result.output
    return hit


@pytest.fixture(scope="session")
def training_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`write_data`, once a session."""
    return write_data(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`write_model`, once a session."""
    return write_model(tmp_path_factory.mktemp("model") / "config.json")


@pytest.fixture(scope="session")
def whole_training(training_pictures: Path, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was never stopped; its record lies beside it, and what was printed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    result = train(training_pictures, small_model, out, "--record", out.with_name("record.json"))
    assert result.exit_code == 0, result.output
    out.with_name("printed.txt").write_text(result.output)
    return out
