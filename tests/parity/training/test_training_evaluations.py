"""Images that a training's own evaluations cannot read: said once, kept in its record, and never all of them."""

import json
import shutil
from pathlib import Path

import pytest
from training_runs import EPOCHS, STEPS, train

SAID = "of 4 images to evaluate on cannot be read; they count as images without detections: "


def damaged(data: Path, folder: Path, count: int) -> tuple[Path, list[Path]]:
    """A copy of a dataset in which so many images to evaluate on are none, and those images."""
    shutil.copytree(data, folder)
    chosen = sorted((folder / "val2017").iterdir())[:count]
    for path in chosen:
        path.write_text("no picture")
    return folder, chosen


def test_they_are_said_once_and_stand_in_the_record(training_pictures: Path, small_model: Path, tmp_path: Path) -> None:
    data, (path,) = damaged(training_pictures, tmp_path / "data", 1)
    result = train(data, small_model, tmp_path / "run", "--record", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    assert result.stderr.count(f"1 {SAID}{path}") == result.stderr.count("cannot be read") == 1
    record = json.loads((tmp_path / "a.json").read_text())
    assert len(record["evaluations"]) == EPOCHS
    assert [reason.startswith(str(path)) for reason in record["skipped"].values()] == [True]
    # Gone on with, by a process that evaluates nothing more.
    again = train(data, small_model, tmp_path / "run", "--resume", "--record", tmp_path / "b.json")
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "b.json").read_text())["skipped"] == record["skipped"]
    (tmp_path / "run" / "unreadable.json").write_text("no list")
    refused = train(data, small_model, tmp_path / "run", "--resume")
    assert (refused.exit_code, "unreadable.json: cannot be read" in refused.stderr) == (2, True), refused.stderr


def test_a_training_that_reads_all_has_none(whole_training: Path) -> None:
    assert json.loads(whole_training.with_name("record.json").read_text())["skipped"] == {}
    assert not (whole_training / "unreadable.json").exists()
    assert "cannot be read" not in whole_training.with_name("printed.txt").read_text()


@pytest.mark.parametrize(
    ("count", "options", "said"),
    [(4, (), "none of 4 images could be read, so nothing is scored; the first: "), (1, ("--strict",), "000001.jpg")],
)
def test_an_evaluation_that_cannot_be_made_stops_it(
    count: int, options: tuple[str, ...], said: str, training_pictures: Path, small_model: Path, tmp_path: Path
) -> None:
    data, _ = damaged(training_pictures, tmp_path / "data", count)
    result = train(data, small_model, tmp_path / "run", "--epochs", 1, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert f"the state after {STEPS} steps is in {tmp_path / 'run'}" in result.stderr
    assert not (tmp_path / "run" / "evaluations.csv").exists()
    # Mended, it goes on from there.
    shutil.rmtree(data)
    shutil.copytree(training_pictures, data)
    assert train(data, small_model, tmp_path / "run", "--epochs", 1, "--resume").exit_code == 0
