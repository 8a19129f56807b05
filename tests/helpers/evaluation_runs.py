"""Evaluations of a tiny model on small pictures: as commands in this process, or in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from effconv.cli import main
from small_images import write_pictures

SWISH = Path(__file__).parent.parent / "golden" / "tiny-swish"
MODEL = ["--model", str(SWISH / "config.json"), "--ckpt", str(SWISH)]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def run(pictures: Path, *options: object) -> Result:
    arguments = ["eval", "--coco", str(pictures), *MODEL, "--workers", "0", *map(str, options)]
    return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="session")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    """The record and the detections file of an uninterrupted run by one process."""
    path = tmp_path_factory.mktemp("whole") / "detections.json"
    result = run(pictures, "--json", "--detections", path)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), path.read_bytes()


def start(pictures: Path, path: Path, processes: int, *options: str) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [
        sys.executable,
        *(launcher if processes > 1 else []),
        "-m",
        "effconv.cli",
        "eval",
        "--coco",
        str(pictures),
    ]
    return subprocess.Popen(
        [*command, "--coco", str(pictures), *MODEL, "--workers", "0", "--json", "--detections", str(path), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
