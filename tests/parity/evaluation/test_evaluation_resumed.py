"""Evaluations shared out, killed and gone on with: the same detections, none twice, none lost."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.effdet_torch.preprocessing.preprocess import Preprocessor
from effconv.errors import EffconvError
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.distributed import Group
from effconv.parity.evaluation.detect import Running, detect
from effconv.parity.evaluation.finished import Finished, Parts, write_line
from effconv.parity.evaluation.pipeline import Settings, build
from evaluation_runs import SWISH, run, start
from small_images import SIZES, write_pictures
from tiny_models import load_tiny


def test_results_on_disk_are_exact_and_a_cut_line_is_forgotten(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", {"run": 1})
    values = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    with parts.open(0) as file:
        write_line(file, Finished(7, values))
        write_line(file, Finished(8, values[:0], "damaged"))
        file.write('{"image_id": 9, "detections": [[1, 2')
    with parts.open(0) as file:
        write_line(file, Finished(9, values[:1]))
    found = parts.read()
    assert list(found) == [7, 8, 9]
    assert np.array_equal(found[7].detections, values)
    assert (found[8].detections.shape, found[8].failure) == ((0, 6), "damaged")
    assert np.array_equal(found[9].detections, values[:1])
    with pytest.raises(EffconvError, match="is of another run: run was 1, now 2"):
        Parts(tmp_path / "parts", {"run": 2}).read()
    next((tmp_path / "parts").iterdir()).write_text('{"run": 1}\n{"image_id": 7}\n')
    with pytest.raises(EffconvError, match="line 2 is damaged"):
        parts.read()


def test_a_run_goes_on_where_it_was(
    pictures: Path, whole: tuple[dict[str, Any], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.json"
    prepared: list[str] = []
    prepare = Preprocessor.__call__

    def counted(self: Preprocessor, encoded: bytes, *, name: str = "image") -> Any:
        if len(prepared) == 5 and not path.with_name("d.json.parts").with_suffix(".resumed").exists():
            raise KeyboardInterrupt
        prepared.append(Path(name).name)
        return prepare(self, encoded, name=name)

    monkeypatch.setattr(Preprocessor, "__call__", counted)
    assert run(pictures, "--detections", path).exit_code == 130
    assert not path.exists()
    path.with_name("d.json.parts").with_suffix(".resumed").touch()
    other = run(pictures, "--detections", path, "--resume", "--nms", "hard")
    assert other.exit_code == 2
    assert "is of another run: nms was 'soft', now 'hard'" in other.stderr
    assert run(pictures, "--detections", path, "--resume").exit_code == 0
    assert path.read_bytes() == whole[1]
    assert len(prepared) == len(set(prepared)) == len(SIZES)  # none was done twice
    assert not path.with_name("d.json.parts").exists()


def test_an_image_that_has_been_restored_is_tried_again(
    whole: tuple[dict[str, Any], bytes], pictures: Path, tmp_path: Path
) -> None:
    folder, path = write_pictures(tmp_path / "damaged"), tmp_path / "d.json"
    first = sorted((folder / "val2017").iterdir())[0]
    kept = first.read_bytes()
    first.write_bytes(kept[:100])
    model, parts = load_tiny(SWISH), path.with_name("d.json.parts")
    dataset, pipeline = read_dataset(folder), build(model.config, Settings())
    results = detect(model, pipeline, dataset, dataset.images, Running(parts=parts, workers=0), Group())
    assert [bool(each.failure) for each in results] == [True] + [False] * (len(SIZES) - 1)
    first.write_bytes(kept)
    again = Running(parts=parts, workers=0, resume=True)
    assert not any(each.failure for each in detect(model, pipeline, dataset, dataset.images, again, Group()))
    assert not any(each.failure for each in detect(model, pipeline, dataset, dataset.images, again, Group()))
    assert lines(parts) == len(SIZES) + 1


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "batch"), [(2, 1), (3, 1), (2, 4)])
def test_several_processes_find_the_same(
    processes: int, batch: int, pictures: Path, whole: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    process = start(pictures, tmp_path / "d.json", processes, "--batch", str(batch))
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    expected, detections = whole
    if batch > 1:
        alone = run(pictures, "--json", "--batch", batch, "--detections", tmp_path / "alone.json")
        expected, detections = json.loads(alone.stdout), (tmp_path / "alone.json").read_bytes()
    record = json.loads(output)  # one process prints, once
    assert record["processes"] == processes
    assert record["metrics"] == expected["metrics"]
    assert record["per_category"] == expected["per_category"]
    assert (tmp_path / "d.json").read_bytes() == detections


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds a launcher's processes in Linux's /proc")
def test_killed_at_random_and_resumed_it_ends_the_same(tmp_path: Path) -> None:
    """Killed ten times, without warning, one process or two; every session starts from what the last one left."""
    pictures = write_pictures(tmp_path / "pictures", 60)
    assert run(pictures, "--detections", tmp_path / "whole.json").exit_code == 0
    path = tmp_path / "d.json"
    parts = path.with_name("d.json.parts")
    chance = random.Random(0)
    finished = [0]
    for attempt in range(10):
        process = start(pictures, path, 1 + attempt % 2, "--resume")
        awaited = lines(parts) + chance.randrange(5)
        while process.poll() is None and lines(parts) < awaited:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.02))
        for each in [process.pid, *descendants(process.pid)]:
            os.kill(each, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        finished.append(lines(parts))
    assert finished == sorted(finished)
    assert len(set(finished)) > 5
    assert not path.exists()
    process = start(pictures, path, 2, "--resume")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert path.read_bytes() == (tmp_path / "whole.json").read_bytes()


def descendants(process: int) -> list[int]:
    """The processes a process has started, and those they have."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [each for child in children for each in (int(child), *descendants(int(child)))]


def lines(parts: Path) -> int:
    """Complete lines in all files, headers aside."""
    return sum(max(0, file.read_bytes().count(b"\n") - 1) for file in parts.glob("*.jsonl"))
