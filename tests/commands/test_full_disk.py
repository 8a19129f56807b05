"""A disk that is full while a command writes: one or two lines, no half-written file, and what was there untouched.

A limit on the size of any file stands for the disk; the system refuses writes beyond it whatever language they come
from. A disk with room for some bytes and not for all is simulated so too.
"""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from effconv.cli import main

SWISH = Path(__file__).parent.parent / "golden" / "tiny-swish"
MODEL = ("--model", SWISH / "config.json")
OF_TINY = (*MODEL, "--ckpt", SWISH)
SIZE = 96
Invocation = Callable[[Path], tuple[object, ...]]  # a folder to write into -> the words of a command line


@contextmanager
def largest_file(bytes_: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def run(words: tuple[object, ...]) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def require_refused(result: Result) -> None:
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.strip().splitlines() if "images/s" not in line]
    assert lines[-1].startswith("effconv: "), result.stderr
    assert len(lines) <= 2, result.stderr
    assert "File too large" in result.stderr or "No space left" in result.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read: weights, pictures, and a model for them."""
    folder = tmp_path_factory.mktemp("given")
    values = json.loads((SWISH / "config.json").read_text())
    (folder / "small.json").write_text(json.dumps({**values, "num_classes": 11, "image_size": [SIZE, SIZE]}))
    for split in ("train2017", "val2017"):
        words = ("shapes", "-o", folder, "--images", 2, "--split", split, "--size", f"{SIZE}x{SIZE}")
        assert run(words).exit_code == 0
    assert run(("tf2torch", *OF_TINY, "-o", folder / "tiny.safetensors")).exit_code == 0
    assert run(("predict", folder / "val2017", "-o", folder / "warm", *OF_TINY)).exit_code == 0  # compiles once
    return folder


COMMANDS: dict[str, tuple[int, Callable[[Path, Path], tuple[object, ...]]]] = {
    "tf2torch": (50_000, lambda given, out: ("tf2torch", *OF_TINY, "-o", out / "x.safetensors")),
    "torch2tf": (50_000, lambda given, out: ("torch2tf", given / "tiny.safetensors", "-o", out / "model")),
    "trace": (50_000, lambda given, out: ("trace", *OF_TINY, "--reference", "torch", "-o", out / "x.npz")),
    "shapes": (500, lambda given, out: ("shapes", "-o", out, "--images", 1)),
    "predict": (500, lambda given, out: ("predict", given / "val2017", "-o", out, *OF_TINY)),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(command: str, given: Path, tmp_path: Path) -> None:
    limit, words = COMMANDS[command]
    with largest_file(limit):
        require_refused(run(words(given, tmp_path / "new")))
    assert files(tmp_path) == {}
    assert run(words(given, tmp_path / "old")).exit_code == 0
    before = files(tmp_path)
    with largest_file(limit):
        require_refused(run(words(given, tmp_path / "old")))
    assert files(tmp_path) == before
