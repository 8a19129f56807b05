"""A disk that is full while a command writes: one or two lines, no half-written file, and what was there untouched.

A limit on the size of any file stands for the disk; the system refuses writes beyond it whatever language they come
from. A disk with room for some bytes and not for all is simulated so too.
"""

import dataclasses
import errno
import json
import os
import re
import resource
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from score_records import RECORD, REPRODUCED

from effconv.cli import main
from effconv.parity import embedded
from effconv.parity.benchmarks.process_records import MetricsEnginesRecord
from effconv.parity.comparison.records import ComparisonRecord
from effconv.parity.verification import verify as verification
from loopback import Server
from page_record import make_record

SWISH = Path(__file__).parent.parent / "golden" / "tiny-swish"
MODEL = ("--model", SWISH / "config.json")
OF_TINY = (*MODEL, "--ckpt", SWISH)
TO_OBJECTS = ("--to", "tf", "--container", "keras")
SIZE = 96

DONE = re.compile("(checkpoint|dataset|conversion|layers|metrics): (holds$|not proven: )")


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
    # Steps of a verification that are done, and progress, come before.
    lines = [line for line in result.stderr.strip().splitlines() if "images/s" not in line and not DONE.match(line)]
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
    "convert to .h5": (50_000, lambda given, out: ("convert", given / "tiny.safetensors", "-o", out / "x.h5")),
    "convert to objects": (
        50_000,
        lambda given, out: ("convert", given / "tiny.safetensors", "-o", out / "x", *TO_OBJECTS),
    ),
    "export hub": (50_000, lambda given, out: ("export", "hub", *OF_TINY, "-o", out / "hub")),
    "card": (500, lambda given, out: ("card", given / "tiny.safetensors", "-o", out / "README.md")),
    "trace": (50_000, lambda given, out: ("trace", *OF_TINY, "--reference", "torch", "-o", out / "x.npz")),
    "shapes": (500, lambda given, out: ("shapes", "-o", out, "--images", 1)),
    "predict": (500, lambda given, out: ("predict", given / "val2017", "-o", out, *OF_TINY)),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_left_behind(command: str, given: Path, tmp_path: Path) -> None:
    limit, words = COMMANDS[command]
    with largest_file(limit):
        require_refused(run(words(given, tmp_path / "new")))
    assert files(tmp_path) == {}
    assert run(words(given, tmp_path / "old")).exit_code == 0
    before = files(tmp_path)
    with largest_file(limit):
        require_refused(run(words(given, tmp_path / "old")))
    assert files(tmp_path) == before


def test_the_page_of_a_check(given: Path, tmp_path: Path) -> None:
    words = ("check", given, "--split", "val2017", "--report", tmp_path / "x.html")
    with largest_file(500):
        require_refused(run(words))
    assert files(tmp_path) == {}
    assert run(words).exit_code == 1  # its two splits have the same pictures
    before = files(tmp_path)
    assert list(before) == ["x.html"]
    with largest_file(500):
        require_refused(run(words))
    assert files(tmp_path) == before


def test_the_demo(tmp_path: Path) -> None:
    with largest_file(500):
        require_refused(run(("demo", "-o", tmp_path)))
    assert files(tmp_path) == {}


def test_an_exported_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(model: object, path: Path, size: object) -> None:
        path.write_bytes(bytes(100_000))

    # It takes 7 s.
    monkeypatch.setattr("effconv.effdet_torch.engines.onnx_export.export_onnx", written)
    monkeypatch.setattr("effconv.effdet_torch.engines.onnx_detector.export_detector", written)
    with largest_file(50_000):
        for more in ((), ("--raw",)):
            require_refused(run(("export", "onnx", *OF_TINY, "-o", tmp_path / "x.onnx", *more)))
    assert files(tmp_path) == {}


def test_a_download(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFCONV_MIRROR", server.url.rpartition("/")[0])
    monkeypatch.setenv("EFFCONV_CACHE", str(tmp_path / "cache"))
    with largest_file(1000):
        require_refused(run(("download", "--model", "d3")))
    assert not [name for name in files(tmp_path) if name.endswith(".tar.gz")]


# What these keep besides is what a run that was cut off goes on from.


def test_detections(pictures: Path, tmp_path: Path) -> None:
    words = ("eval", "--coco", pictures, *OF_TINY, "--workers", 0, "--detections", tmp_path / "d.json")
    with largest_file(1500):
        require_refused(run(words))
    assert all(name.startswith("d.json.parts/") for name in files(tmp_path))
    assert run((*words, "--resume")).exit_code == 0
    assert list(files(tmp_path)) == ["d.json"]


def test_a_training(given: Path, tmp_path: Path) -> None:
    words = ("train", "--data", given, "--model", given / "small.json", "--out", tmp_path / "out", "--epochs", 1)
    with largest_file(50_000):
        require_refused(run((*words, "--eval-split", "none", "--batch", 2, "--workers", 0)))
    assert set(files(tmp_path)) <= {"out/run.json", "out/steps.csv"}


def test_kept_outputs_of_an_ablation(pictures: Path, tmp_path: Path) -> None:
    """They are written through mapped memory, which kills a process when there is no room for it."""
    words = ("ablate", "--hard-nms-0.5", "--coco", pictures, *OF_TINY, "--limit", 2, "--record", tmp_path / "r.json")
    with largest_file(100_000):
        require_refused(run((*words, "--cache", tmp_path / "cache")))
    assert set(files(tmp_path)) <= {"r.json.rows"}


REPORTS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "ablate --record": lambda out: ("ablate", "--hard-nms-0.5", "--limit", 2, "--record", out / "r.json"),
    "ablate --report": lambda out: ("ablate", "--hard-nms-0.5", "--limit", 2, "--report", out / "r.html"),
    "bench --record": lambda out: ("bench", "coco", "--images", 10, "--record", out / "r.json"),
    "parity .json": lambda out: ("parity", *OF_TINY, *RECORDED, "--report", out / "r.json"),
    "parity .md": lambda out: ("parity", *OF_TINY, *RECORDED, "--report", out / "r.md"),
    "parity .html": lambda out: ("parity", *OF_TINY, *RECORDED, "--report", out / "r.html"),
}
RECORDED = ("--reference", SWISH / "activations_128x160.npz")


@pytest.mark.parametrize("command", REPORTS)
def test_records_and_reports(command: str, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at their last byte: what is computed before needs larger files than they are."""
    committed = json.loads((repository / "results" / "measured" / "bench-coco.json").read_text())
    measured = MetricsEnginesRecord.read(committed)
    monkeypatch.setattr(embedded, "HELD_OUT_IMAGES", 2)
    monkeypatch.setattr("effconv.parity.benchmarks.coco.measure_metrics_engines", lambda *_: measured)
    whole = Path.write_text

    def write_text(path: Path, text: str, **options: Any) -> int:
        if path.name.startswith(".r."):
            whole(path, text[:-1], **options)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(path, text, **options)

    monkeypatch.setattr(Path, "write_text", write_text)
    require_refused(run(REPORTS[command](tmp_path)))
    assert set(files(tmp_path)) <= {"r.json.rows"}


@pytest.mark.parametrize(
    "name", ["tiny-swish.safetensors", "layers.json", "verification.json", "verification.md", "verification.html"]
)
def test_a_verification(name: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full at each of its files in turn; the steps between, which take TensorFlow and minutes, are left out."""
    agrees = {"ok": True, "verdict": "every layer agrees", "rows": [], "provenance": {"effconv": "0"}}
    layers = ComparisonRecord.read(make_record() | agrees)
    metrics = dataclasses.replace(RECORD, published=REPRODUCED)
    for place, found in {
        "import_tensorflow": None,
        "compare_written": types.SimpleNamespace(holds=True, verdict="equal"),
        "compare_layerwise": layers,
        "compare_with_published": metrics,
    }.items():
        monkeypatch.setattr(verification, place, lambda *_, found=found, **__: found)
    words = ("verify", *OF_TINY, "--coco", pictures, "--workers", 0, "-o", tmp_path / "out")
    whole, sized = Path.write_text, name.endswith(".safetensors")

    def write_text(path: Path, text: str, **options: Any) -> int:
        if path.name.startswith(f".{name}."):
            whole(path, text[:-1], **options)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(path, text, **options)

    for code in ("one", "other"):  # where nothing is yet, and where a verification is
        with monkeypatch.context() as full, largest_file(50_000 if sized else 10_000_000):
            before = files(tmp_path)
            full.setattr(Path, "write_text", write_text)
            if name == "layers.json":
                full.setattr(verification, "package_digest", lambda code=code: code)
            result = run(words)
        assert "every step holds" not in result.stdout
        require_refused(result)
        assert f"/{name.replace('.md', '.json').replace('.html', '.json')}: cannot be written (" in result.stderr
        after = files(tmp_path)
        assert not [path for path in after if Path(path).name.startswith(".")]
        assert f"out/{name}" in before or f"out/{name}" not in after
        assert {path: content for path, content in after.items() if path in before} == before
        done = run(words)
        assert done.exit_code == 0, done.output
    weights = ("tiny-swish.safetensors", "tiny-swish.manifest.json")
    names = (*weights, "layers.json", "verification.json", "verification.md", "verification.html")
    assert set(files(tmp_path)) == {f"out/{each}" for each in names}


@pytest.mark.parametrize("words", [["models"], ["models", "--json"], ["results"], ["--help"], ["--version"]])
def test_a_full_standard_output(words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "effconv", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    line = "effconv: cannot read or write (No space left on device); free space, or choose another place\n"
    assert (done.returncode, done.stderr) == (2, line)


@pytest.mark.parametrize("words", [["models"], ["results"]])
def test_a_reader_that_stopped_reading(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "effconv", *words]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
