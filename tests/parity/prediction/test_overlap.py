"""Threads that read and draw beside the network change no byte of what is written, nor how a run ends."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.convert import output
from effconv.parity.prediction import overlap
from small_images import write_pictures

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of both kinds and several sizes, and two that cannot be read among them."""
    folder = write_pictures(tmp_path_factory.mktemp("pictures"), COUNT) / "val2017"
    first = min(folder.iterdir())
    (folder / "0025.jpg").write_bytes(first.read_bytes()[:200])
    shutil.copy(first, folder / "zzz.jpg")
    (folder / "zz.png").write_text("no picture")
    return folder


def run(folder: Path, out: Path, workers: int, *words: str) -> Result:
    model = ["--model", str(SWISH / "config.json"), "--ckpt", str(SWISH), "--min-score", "0.1"]
    arguments = ["predict", str(folder), "-o", str(out), *model, "--workers", str(workers), *words]
    return CliRunner().invoke(main, arguments)


def test_outputs_are_the_same_bytes_for_any_number_of_threads(folder: Path, tmp_path: Path) -> None:
    found = {}
    for workers in (0, 1, 3):
        out = tmp_path / "out"
        text = run(folder, out, workers, "--skip-unreadable")
        assert text.exit_code == 0, text.stderr
        written = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
        record = json.loads(run(folder, out, workers, "--json", "--skip-unreadable").stdout)
        assert len(record["skipped"]) == 2
        found[workers] = text.stdout, written, record
        shutil.rmtree(out)
    assert len(found[0][1]) == COUNT + 1 + 2  # and zzz.jpg, and two of JSON
    assert found[0] == found[1] == found[3]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_strict_run_ends_when_all_before_the_unreadable_one_is_drawn(
    workers: int, folder: Path, tmp_path: Path
) -> None:
    result = run(folder, tmp_path / "out", workers, "--strict")
    assert result.exit_code == 2
    assert str(folder / "0025.jpg") in result.stderr
    before = sorted(path.name for path in folder.iterdir() if path.name < "0025.jpg")
    assert sorted(path.name for path in (tmp_path / "out").glob("*")) == before
    assert len(result.stdout.splitlines()) == len(before)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_interruption_leaves_whole_files_and_no_thread(
    workers: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_network, calls = overlap.predict_inputs, []

    def interrupted(*arguments):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return of_network(*arguments)

    monkeypatch.setattr(overlap, "predict_inputs", interrupted)
    others = threading.active_count()
    result = run(folder, tmp_path / "out", workers)
    assert (result.exit_code, "effconv: interrupted" in result.stderr) == (130, True)
    assert threading.active_count() == others
    assert len(calls) == 4
    whole = tmp_path / "whole"
    monkeypatch.undo()
    run(folder, whole, 0)
    left = [*(tmp_path / "out").iterdir()]
    assert len(left) <= 3
    assert all(path.read_bytes() == (whole / path.name).read_bytes() for path in left)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_picture_that_cannot_be_written_ends_the_run(
    workers: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_picture = overlap.write_picture

    def write(picture, path, *arguments, **more):  # type: ignore[no-untyped-def]
        if path.name == "002.jpg":
            raise output.OutputError(f"{path}: cannot be written (No space left on device); choose another output")
        of_picture(picture, path, *arguments, **more)

    monkeypatch.setattr(overlap, "write_picture", write)
    result = run(folder, tmp_path / "out", workers)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "002.jpg: cannot be written (No space left" in result.stderr
    assert not (tmp_path / "out" / "detections.json").exists()


def test_threads_that_write_leave_the_umask_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read by setting it to 0: two threads at once would take the 0 for the user's, and leave it."""
    umask, before = os.umask, os.umask(0o027)

    def slow(mask: int) -> int:
        found = umask(mask)
        time.sleep(0.005)
        return found

    def write(number: int) -> None:
        with output.replacing(tmp_path / f"{number}" / "x.txt") as (file,):
            file.write_text("x")

    monkeypatch.setattr(os, "umask", slow)
    try:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = umask(0o027)
    finally:
        umask(before)
    assert left == 0o027
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*/x.txt")} == {0o640}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o750}
