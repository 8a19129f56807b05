"""A file of detections made from another by one change: `eval --against --waterfall` names that change alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from detection_files import NUMBERS, changed, clipped, corners, detections, renumbered, write_results, write_truths

from effconv.cli import main
from effconv.parity.ablation.file_properties import keep_best
from effconv.parity.ablation.versus import VersusRecord, VersusStep
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.coco import Rows, evaluate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_truths(tmp_path_factory.mktemp("dataset"))


def run(folder: Path, *options: object) -> Result:
    return CliRunner().invoke(main, ["eval", "--coco", str(folder), *map(str, options)])


def split(folder: Path, into: Path, mine: Rows, ours: Rows) -> VersusRecord:
    files = write_results(mine, into / "mine.json"), write_results(ours, into / "ours.json")
    result = run(folder, "--results", files[0], "--against", files[1], "--waterfall", "--json")
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)
    record = VersusRecord.read(plain)
    assert record.plain() == plain
    assert_sums(record)
    return record


def assert_sums(record: VersusRecord) -> None:
    """Every metric's steps follow one another from the second file to the first, and add up to the whole."""
    for place, whole in enumerate(record.metrics):
        steps = [step.metrics[place] for step in record.waterfall]
        assert (steps[0].second, steps[-1].first) == (whole.second, whole.first)
        assert [each.first for each in steps[:-1]] == [each.second for each in steps[1:]]
        assert sum(each.difference for each in steps) == pytest.approx(whole.difference, abs=1e-12)
        assert all(each.low <= each.high for each in steps)


def named(record: VersusRecord) -> dict[str, VersusStep]:
    return {step.name: step for step in record.waterfall}


CHANGES: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "max-detections-10": (lambda rows: keep_best(rows, 10), "at most 10 detections an image, not 24"),
    "min-score-0.5": (lambda rows: rows[rows[:, 5] >= 0.5], "no score below 0.5"),
    "clip": (clipped, "boxes clipped"),
    "whole-pixels": (changed(slice(1, 5), np.round), "boxes rounded to whole pixels"),
    "whole-pixels, cut": (changed(slice(1, 5), np.trunc), "boxes cut off to whole pixels"),
    "score-decimals-1": (changed(5, lambda scores: np.round(scores, 1)), "scores rounded to 1 decimals"),
    "missing-categories": (lambda rows: rows[rows[:, 6] != 4], "no detections of 1 categories: thing 4"),
    "missing-images": (lambda rows: rows[rows[:, 0] >= 35], "no detections on 10 images: id 5, 8"),
    "corner-boxes": (corners, "[x1, y1, x2, y2]"),
    "contiguous-categories": (renumbered(dict(zip(NUMBERS, range(5), strict=True))), "from 0 without the gaps"),
    "shifted-categories": (changed(6, lambda column: column - 1), "one too low"),
}
MISTAKES = {"corner-boxes", "contiguous-categories", "shifted-categories"}


@pytest.mark.parametrize("name", CHANGES)
def test_one_change_is_named_alone_with_the_whole_difference(folder: Path, tmp_path: Path, name: str) -> None:
    ours = detections(folder, 0)
    change, words = CHANGES[name]
    name = name.partition(",")[0]
    mine = change(ours)
    if name.startswith("min-score"):
        mine[0, 5] = 0.5  # the lowest there is
    record = split(folder, tmp_path, mine, ours)
    steps = named(record)
    assert set(steps) == {name, "detections"}
    assert words in steps[name].summary
    assert steps[name].kind == ("mistake" if name in MISTAKES else "property")
    whole = [each.difference for each in record.metrics]
    assert any(abs(each) > 1e-4 for each in whole)
    found = [each.difference for each in steps[name].metrics]
    assert found == pytest.approx(whole, abs=0.02 * max(map(abs, whole)))


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1), (2, 1)])
def test_a_clean_pair_has_no_step(folder: Path, tmp_path: Path, seeds: tuple[int, int]) -> None:
    mine, ours = (detections(folder, seed) for seed in seeds)
    record = split(folder, tmp_path, mine, ours)
    (step,) = record.waterfall
    assert (step.name, step.kind) == ("detections", "detections")
    assert step.metrics == record.metrics


@pytest.mark.parametrize("name", CHANGES)
def test_another_detectors_changed_file_is_told_from_the_detector(folder: Path, tmp_path: Path, name: str) -> None:
    """The change is named, what remains is another detector's; nothing else is."""
    clean = split(folder, tmp_path, detections(folder, 1), detections(folder, 0))
    mine = CHANGES[name][0](detections(folder, 1))
    words = CHANGES[name][1]
    name = name.partition(",")[0]
    if name.startswith("min-score"):
        mine[0, 5] = 0.5
    record = split(folder, tmp_path, mine, detections(folder, 0))
    assert set(named(record)) == {name, "detections"}
    assert words.partition(",")[0] in named(record)[name].summary
    own = named(record)["detections"].metrics[0].difference
    assert own == pytest.approx(clean.metrics[0].difference, abs=0.05)


def test_several_at_once_are_all_named(folder: Path, tmp_path: Path) -> None:
    ours = detections(folder, 0)
    mine = corners(renumbered(dict(zip(NUMBERS, range(1, 6), strict=True)))(clipped(keep_best(ours, 12))))
    record = split(folder, tmp_path, mine, ours)
    assert [(step.name, step.kind) for step in record.waterfall] == [
        ("max-detections-12", "property"),
        ("clip", "property"),
        ("detections", "detections"),
        ("contiguous-categories", "mistake"),
        ("corner-boxes", "mistake"),
    ]
    assert named(record)["detections"].metrics[0].difference == pytest.approx(0, abs=1e-3)
    scores = evaluate(read_dataset(folder), keep_best(ours, 12), engine="pycocotools")
    assert record.waterfall[0].metrics[0].first == pytest.approx(scores.metrics["AP"], abs=1e-12)


def test_the_text_says_what_to_do_first(folder: Path, tmp_path: Path) -> None:
    ours = detections(folder, 0)
    files = write_results(corners(ours), tmp_path / "mine.json"), write_results(ours, tmp_path / "ours.json")
    text = run(folder, "--results", files[0], "--against", files[1], "--waterfall").stdout
    assert "from ours.json to mine.json, step by step" in text
    assert "a mistake in mine.json: boxes written as [x1, y1, x2, y2]" in text
    assert text.endswith("first of all, write mine.json anew without its mistakes\n")
    assert "step by step" not in run(folder, "--results", files[0], "--against", files[1]).stdout


@pytest.mark.parametrize("which", ["mine", "ours", "both"])
def test_files_without_detections_have_one_step(folder: Path, tmp_path: Path, which: str) -> None:
    rows, none = detections(folder, 0), np.zeros((0, 7))
    record = split(folder, tmp_path, none if which != "ours" else rows, none if which != "mine" else rows)
    assert set(named(record)) == {"detections"}


def test_a_waterfall_needs_another_file(folder: Path, tmp_path: Path) -> None:
    mine = write_results(detections(folder, 0), tmp_path / "mine.json")
    result = run(folder, "--results", mine, "--waterfall")
    assert (result.exit_code, "--waterfall: not used by an evaluation without --against" in result.stderr) == (2, True)


def test_detections_on_images_that_are_left_out_are_refused(folder: Path, tmp_path: Path) -> None:
    mine = write_results(detections(folder, 0), tmp_path / "mine.json")
    result = run(folder, "--results", mine, "--against", mine, "--waterfall", "--limit", 5)
    assert (result.exit_code, "images with detections" in result.stderr) == (2, True), result.output
