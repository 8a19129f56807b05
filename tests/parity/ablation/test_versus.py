"""Two files of detections compared: `effconv eval --results --against`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.parity.ablation.versus import VersusRecord
from effconv.parity.datasets.dataset import Dataset
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.coco import METRICS, evaluate, read_detections
from small_images import write_pictures

COUNT = 8


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), COUNT)


def write(dataset: Dataset, path: Path, lose: set[int] = frozenset()) -> Path:  # type: ignore[assignment]
    """Every true box found, but for those of the images in `lose`, which are beside it."""
    rows: list[dict[str, Any]] = []
    for each in dataset.annotations:
        x, y, width, height = each["bbox"]
        shift = 0.4 * width if each["image_id"] in lose else 0.0
        box = [x + shift, y, width, height]
        rows.append({"image_id": each["image_id"], "category_id": each["category_id"], "bbox": box, "score": 0.9})
    path.write_text(json.dumps(rows))
    return path


def run(pictures: Path, *options: object) -> Result:
    return CliRunner().invoke(main, ["eval", "--coco", str(pictures), *map(str, options)])


def test_what_is_lost_is_found_where_it_is_lost(pictures: Path, tmp_path: Path) -> None:
    dataset = read_dataset(pictures)
    lost = sorted({each["image_id"] for each in dataset.annotations if not each["iscrowd"]})[:2]
    mine = write(dataset, tmp_path / "mine.json", set(lost))
    ours = write(dataset, tmp_path / "ours.json")
    result = run(pictures, "--results", mine, "--against", ours, "--json")
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)
    record = VersusRecord.read(plain)
    assert record.plain() == plain
    names = {image.id: image.path.name for image in dataset.images}
    assert {part.name for part in record.by_image if part.difference < 0} == {names[number] for number in lost}
    for path, side in ((mine, "first"), (ours, "second")):
        scores = evaluate(dataset, read_detections(path), engine="pycocotools")
        measured = {each.metric: getattr(each, side) for each in record.metrics}
        assert measured == pytest.approx({name: scores.metrics[name] for name in METRICS}, abs=1e-12)
        assert {part.name: getattr(part, side) for part in record.categories} == pytest.approx(
            {dataset.categories[number]: value for number, value in scores.per_category.items() if value >= 0},
            abs=1e-12,
        )
    ap = record.metrics[0]
    assert ap.difference == pytest.approx(ap.first - ap.second)
    assert ap.low <= ap.difference <= ap.high
    assert ap.difference < 0
    assert [part.difference for part in record.by_image] == sorted(part.difference for part in record.by_image)
    text = run(pictures, "--results", mine, "--against", ours).stdout
    assert text.startswith(f"mine.json beside ours.json on {COUNT} images: AP {ap.first:.4f} and {ap.second:.4f}")
    assert all(names[number] in text for number in lost)


def test_the_same_file_twice_shows_no_effect(pictures: Path, tmp_path: Path) -> None:
    mine = write(read_dataset(pictures), tmp_path / "mine.json")
    record = VersusRecord.read(json.loads(run(pictures, "--results", mine, "--against", mine, "--json").stdout))
    assert {each.difference for each in record.metrics} == {0.0}
    assert "better" not in {each.verdict for each in record.metrics}
    assert "worse" not in {each.verdict for each in record.metrics}
    assert "loses most" not in run(pictures, "--results", mine, "--against", mine).stdout


def test_an_images_own_metric_is_that_of_the_image_alone(pictures: Path, tmp_path: Path) -> None:
    dataset = read_dataset(pictures)
    mine = write(dataset, tmp_path / "mine.json", {dataset.annotations[-1]["image_id"]})
    record = VersusRecord.read(json.loads(run(pictures, "--results", mine, "--against", mine, "--json").stdout))
    rows = read_detections(mine)
    for image in dataset.images:
        alone = evaluate(dataset, rows[np.isin(rows[:, 0], [image.id])], [image], "pycocotools").metrics["AP"]
        found = [part.first for part in record.by_image if part.name == image.path.name]
        assert found == ([] if alone < 0 else [pytest.approx(alone, abs=1e-12)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--against", "ours.json"), "--against: name the --results to compare with them"),
        (("--results", "MINE", "--against", "MINE", "--limit", "1"), "an interval needs at least two images"),
        (("--results", "MINE", "--against", "nowhere.json"), "nowhere.json"),
        (
            ("--results", "MINE", "--against", "MINE", "--metrics-engine", "pycocotools"),
            "--metrics-engine: not used by",
        ),
    ],
)
def test_what_is_refused(pictures: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    mine = write(read_dataset(pictures), tmp_path / "mine.json")
    result = run(pictures, *(str(mine) if word == "MINE" else word for word in options))
    assert (result.exit_code, message in result.stderr) == (2, True), result.output
