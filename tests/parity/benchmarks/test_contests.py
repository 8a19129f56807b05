"""Benchmarks of contestants taking turns: what they report, and that the contestants do the same work. No timings."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from effconv.cli import main
from effconv.effdet_torch.postprocessing.nms import PerClass
from effconv.effdet_torch.postprocessing.suppression import Hard
from effconv.parity.benchmarks import coco as coco_benchmark
from effconv.parity.benchmarks import contest, equal_work
from effconv.parity.benchmarks import evaluation as evaluation_benchmark
from effconv.parity.benchmarks.contest_records import EvaluationRecord, InputRecord, NmsRecord
from effconv.parity.benchmarks.nms import hard_in_step, made_up_candidates
from effconv.parity.benchmarks.process_records import MetricsEnginesRecord
from effconv.parity.plain import Plain
from small_images import write_pictures

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 3)


def bench(kind: type[Plain], tmp_path: Path, *arguments: object, status: int = 0) -> dict[str, Any]:
    """The record a benchmark prints and writes, which is one of that kind."""
    path = tmp_path / "record.json"
    result = CliRunner().invoke(main, ["bench", *map(str, arguments), "--record", str(path), "--json"])
    assert result.exit_code == status, result.output
    record = json.loads(result.stdout)
    assert record == json.loads(path.read_text()) == kind.read(record).plain()
    return record


def require_ratios_of_medians(record: dict[str, Any]) -> dict[str, Any]:
    medians = {name: statistics.median(turn["seconds"] for turn in each) for name, each in record["turns"].items()}
    assert {len(each) for each in record["turns"].values()} == {record["rounds"]}
    rows = {row["contestant"]: row for row in record["rows"]}
    assert set(rows) == set(medians)
    for name, row in rows.items():
        assert row["seconds_per_item"] == medians[name] / record["items"]
        assert row["ratio"] == medians[name] / medians[row["beside"]]
        assert row["beside"].startswith("effconv")
    assert set(record["probe_gflops"]) == {"before", "after"}
    assert record["provenance"]["versions"]["torch"]
    return rows


def test_contestants_take_turns_of_two_runs_of_which_the_second_counts() -> None:
    log: list[str] = []
    turns = contest.take_turns({name: lambda name=name: log.append(name) for name in "abc"}, 4)
    assert "".join(log) == "aabbcc" + "bbccaa" + "ccaabb" + "aabbcc"
    assert {name: len(each) for name, each in turns.items()} == {"a": 4, "b": 4, "c": 4}


def test_rows_are_medians_per_item_and_ratios_of_medians() -> None:
    turns = {
        "ours": [contest.Turn(seconds=seconds, processor_seconds=2 * seconds) for seconds in (1.0, 2.0, 90.0)],
        "theirs": [contest.Turn(seconds=seconds, processor_seconds=seconds) for seconds in (5.0, 80.0, 6.0)],
    }
    rows = contest.rows(turns, {"ours": "ours", "theirs": "ours"}, items=4)
    assert [row.seconds_per_item for row in rows] == [0.5, 1.5]
    assert [row.ratio for row in rows] == [1.0, 3.0]
    assert [row.processors_used for row in rows] == [2.0, 1.0]


@pytest.mark.tf
def test_bench_input(pictures: Path, tmp_path: Path) -> None:
    options = ["--model", SWISH / "config.json", "--rounds", 3]
    record = bench(InputRecord, tmp_path, "input", "--images", pictures / "val2017", "--limit", 2, *options)
    rows = require_ratios_of_medians(record)
    assert (record["images"], record["items"], record["identical_inputs"]) == (2, 2, 2)
    assert rows["TensorFlow"]["beside"] == "effconv"
    assert rows["Pillow, decoding alone"]["beside"] == "effconv, decoding alone"


@pytest.mark.tf
def test_bench_nms(tmp_path: Path) -> None:
    record = bench(NmsRecord, tmp_path, "nms", "--candidates", 400, "--classes", 5, "--rounds", 3)
    rows = require_ratios_of_medians(record)
    assert record["identical_to_tensorflow"]
    assert ("torchvision, hard" in rows) != ("torchvision, hard" in record["left_out"])
    text = CliRunner().invoke(main, ["bench", "nms", "--candidates", "50", "--classes", "2", "--rounds", "1"]).stdout
    assert text.split()[:4] == ["contestant", "ms", "per", "image"]
    assert "effconv's and TensorFlow's soft-NMS give the same boxes and scores, bit for bit." in text
    assert "1 rounds on one thread" in text


@pytest.mark.parametrize("classes", [1, 6, 90])
def test_the_plain_contestant_suppresses_as_ours_does(classes: int) -> None:
    given = made_up_candidates(700, classes, seed=classes)
    expected = PerClass(Hard(0.5), 60)(given)
    found = hard_in_step(given.boxes[0], given.scores[0], given.classes[0], 0.5, 60)
    assert torch.equal(given.boxes[0][found], expected.boxes[0])
    assert torch.equal(given.scores[0][found], expected.scores[0])


@pytest.mark.tf
def test_bench_eval(pictures: Path, tmp_path: Path) -> None:
    """In a process of its own, because TensorFlow's settings are fixed once it runs."""
    options = ["--model", SWISH / "config.json", "--ckpt", SWISH, "--rounds", "3", "--limit", "2", "--json"]
    command = [sys.executable, "-m", "effconv.cli", "bench", "eval", "--coco", pictures, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert EvaluationRecord.read(record).plain() == record
    assert record["onednn"] == "1"
    rows = require_ratios_of_medians(record)
    assert record["detections_agreeing"] == 1.0  # both sides do the same
    assert set(rows) == {"effconv", "TensorFlow", "effconv, network alone", "TensorFlow, network alone"}


def test_bench_eval_refuses_a_tensorflow_that_runs_already(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_benchmark, "require_tensorflow", lambda: None)
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    result = CliRunner().invoke(main, ["bench", "eval", "--coco", str(pictures)])
    assert (result.exit_code, "measure in a fresh process" in result.stderr) == (2, True)


def test_agreement_counts_what_both_found() -> None:
    boxes = np.array([[0, 0, 9, 9], [5, 5, 8, 8], [1, 1, 2, 2]], np.float32)
    ours = boxes, np.ones(3), np.array([1, 2, 3])
    theirs = boxes[[1, 0, 2]] + np.float32(0.05), np.ones(3), np.array([2.0, 1.0, 4.0])
    assert equal_work.agreeing(ours, theirs) == pytest.approx(2 / 3)
    far = boxes + np.float32([0, 0, 0, 1]), np.ones(3), np.array([1, 2, 3])
    assert equal_work.agreeing(ours, far) == 0


def test_bench_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_benchmark, "ROUNDS", {"ultrafast": 2, "pycocotools": 1})
    record = bench(MetricsEnginesRecord, tmp_path, "coco", "--images", 8)
    assert record["identical"] == dict.fromkeys(("precision", "recall", "scores", "metrics"), True)
    assert (record["images"], record["detections"]) == (8, 800)
    fast, original = record["rows"]
    figures = record["figures"]
    assert (fast["engine"], fast["rounds"], original["rounds"]) == ("ultrafast", 2, 1)
    assert fast["seconds"] == statistics.median(each["seconds"] for each in figures["ultrafast"])
    assert fast["times_faster"] == original["seconds"] / fast["seconds"]
    assert fast["times_smaller"] == original["peak_megabytes"] / fast["peak_megabytes"]
    assert original["peak_megabytes"] == figures["pycocotools"][0]["peak_bytes"] / 1e6


# The program that is measured, with one engine's recall another by one.
WRONG_EVALUATION = """
import sys
from effconv.parity.benchmarks.programs import evaluate_detections as program
right = program.evaluate
def wrong(dataset, detections, engine):
    scores = right(dataset, detections, engine=engine)
    scores.recall[0] += engine == "pycocotools"
    return scores
program.evaluate = wrong
program.main(*sys.argv[1:])
"""


def test_bench_coco_fails_when_engines_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_benchmark, "ROUNDS", {"ultrafast": 1, "pycocotools": 1})
    (tmp_path / "wrong_evaluation.py").write_text(WRONG_EVALUATION)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    monkeypatch.setattr(coco_benchmark, "EVALUATE", "wrong_evaluation")
    record = bench(MetricsEnginesRecord, tmp_path, "coco", "--images", 3, status=1)
    assert record["identical"] == {"precision": True, "recall": False, "scores": True, "metrics": True}
