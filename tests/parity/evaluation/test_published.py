"""`effconv parity --coco`: a model evaluated as its published number was made, and the verdict."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation import published, published_rows
from effconv.parity.evaluation.coco import METRICS
from effconv.parity.evaluation.published_rows import PublishedRow
from small_images import write_pictures

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
SHARED = {
    "split": "small",
    "weights": "ema",
    "image_size": "128x160",
    "image_decoder": "tensorflow",
    "resize": "tensorflow",
}
SETTINGS = {"anchors": "legacy", "candidates": "topk", "nms": "hard", "max_detections": 100}


def run(folder: Path, command: str, *options: str) -> Result:
    model = ["--model", str(SWISH / "config.json"), "--ckpt", str(SWISH), "--split", "small", "--workers", "0"]
    return CliRunner().invoke(main, [command, "--coco", str(folder), *model, *options])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pictures(tmp_path_factory.mktemp("pictures"))
    (folder / "val2017").rename(folder / "small")
    (folder / "annotations" / "instances_val2017.json").rename(folder / "annotations" / "instances_small.json")
    return folder


@pytest.fixture(scope="module")
def metrics(pictures: Path) -> dict[str, float]:
    """What this model really has, evaluated with legacy anchors and hard NMS."""
    found = run(pictures, "eval", "--json", "--anchors", "legacy", "--nms", "hard")
    return json.loads(found.stdout)["metrics"]


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> Callable[..., None]:
    """`publish(metrics, **conditions)`: from now on this is what is published, of a checkpoint that is recognised."""
    dataset = read_dataset(pictures)
    whole = {"images": len(dataset.images), "annotations": dataset.content}

    def now(values: dict[str, float], **conditions: Any) -> None:
        stated = {**SHARED, **SETTINGS, **whole, **conditions}
        details = {"fingerprint": "tiny", "generation": "made up"}
        row = PublishedRow("made-up", "google/automl", "a test", "tiny-swish", values, stated, details)
        monkeypatch.setattr(published_rows, "published_rows", lambda: (row,))
        monkeypatch.setattr(published, "fingerprint_of", lambda path, verify: "tiny")

    return now


def test_a_published_number_is_reproduced_as_it_was_made(
    pictures: Path, metrics: dict[str, float], publish: Callable[..., None]
) -> None:
    publish(metrics)
    result = run(pictures, "parity")
    assert result.exit_code == 0, result.stderr
    first, second, third = result.stdout.splitlines()[:3]
    ap = f"{metrics['AP']:.4f}"
    within = "difference +0.0000; 12 of 12 published metrics within 0.001"
    assert first == f"tiny-swish: reproduced: AP {ap}, published {ap}, {within}"
    assert second == "published: google/automl, tiny-swish, made up (a test)"
    assert "anchors legacy" in third  # the row's, though the official ones are the default
    assert "nms hard" in third
    found = json.loads(run(pictures, "parity", "--json").stdout)["published"]
    assert (found["holds"], found["known_checkpoint"], found["differences"]) == (True, True, [])
    assert [row["metric"] for row in found["rows"]] == list(METRICS)
    assert all(row["ours"] == row["published"] for row in found["rows"])


def test_another_number_is_not(pictures: Path, metrics: dict[str, float], publish: Callable[..., None]) -> None:
    publish({**metrics, "AP": metrics["AP"] + 0.0011})
    result = run(pictures, "parity")
    assert result.exit_code == 1
    assert result.stdout.startswith("tiny-swish: not reproduced: ")
    publish({**metrics, "AP": metrics["AP"] + 0.0009})
    assert run(pictures, "parity").exit_code == 0
    publish({name: value * (1 if name == "AP" else 0.8) for name, value in metrics.items()})
    assert run(pictures, "parity").exit_code == 1


def test_a_lower_precision_does_not_reproduce_a_row_that_states_none(
    pictures: Path, metrics: dict[str, float], publish: Callable[..., None]
) -> None:
    publish(metrics)
    result = run(pictures, "parity", "--precision", "bfloat16")
    assert result.exit_code == 1
    assert "not comparable (precision: published float32, here bfloat16)" in result.stdout


def test_other_annotations_under_the_same_name_prove_nothing(
    pictures: Path, metrics: dict[str, float], publish: Callable[..., None], tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(pictures, folder)
    path = folder / "annotations" / "instances_small.json"
    data = json.loads(path.read_text())
    data["annotations"].pop()
    path.write_text(json.dumps(data))
    publish(metrics)
    result = run(folder, "parity")
    assert result.exit_code == 1
    own, other = (read_dataset(each).content for each in (pictures, folder))
    assert own != other
    assert f"not comparable (annotations: published {own}, here {other})" in result.stdout


def test_what_was_given_is_not_overruled_and_is_named(
    pictures: Path, metrics: dict[str, float], publish: Callable[..., None]
) -> None:
    publish(metrics)
    result = run(pictures, "parity", "--nms", "soft", "--size", "256x256")
    assert result.exit_code == 1
    assert result.stdout.startswith("tiny-swish: not comparable (image_size: published 128x160, here 256; nms: ")
    assert "nms (the kind of non-maximum suppression): published hard, here soft; soft-NMS is worth" in result.stdout
    assert "image_size (input size in pixels): published 128x160, here 256; the size of its effect" in result.stdout


def test_images_that_cannot_be_read_leave_nothing_proven(
    pictures: Path, metrics: dict[str, float], publish: Callable[..., None], tmp_path: Path
) -> None:
    folder = tmp_path / "fewer"
    (folder / "annotations").mkdir(parents=True)
    (folder / "small").mkdir()
    for file in pictures.glob("*/*"):
        (folder / file.relative_to(pictures)).write_bytes(file.read_bytes())
    next((folder / "small").glob("*.jpg")).unlink()
    publish(metrics)
    result = run(folder, "parity")
    assert result.exit_code == 1
    assert "not comparable (images: published 9, here 8)" in result.stdout
    assert "images (how many of them): published 9, here 8" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("1 of 9 images skipped")


def test_a_model_nobody_published_is_named(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(pictures, "parity")
    assert result.exit_code == 2
    assert "no number is published for tiny-swish" in result.stderr
    result = CliRunner().invoke(main, ["parity", "--coco", str(pictures)])
    assert "name the model to compare" in result.stderr
