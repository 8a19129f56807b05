"""A network whose boxes overflow: what JSON and pictures cannot hold is left out, and counted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from effconv.cli import main
from effconv.convert.weights_file import save_weights
from effconv.effdet_torch.prediction import Prediction
from effconv.parity.evaluation.finished import Parts
from small_images import write_pictures
from tiny_models import load_tiny

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
COUNT = 3


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), COUNT)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One anchor of every place has boxes of infinite height."""
    model = load_tiny(SWISH)
    with torch.no_grad():
        model.box_head.predict.pointwise.bias[2] = 100.0
    path = tmp_path_factory.mktemp("weights") / "overflowing.safetensors"
    save_weights({name: value.numpy() for name, value in model.state_dict().items()}, model.config, path)
    return path


def test_predict_leaves_them_out_and_counts_them(pictures: Path, weights: Path, tmp_path: Path) -> None:
    command = ["predict", str(pictures / "val2017"), "--ckpt", str(weights), "--min-score", "0"]
    result = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "a"), "--json"])
    assert result.exit_code == 0, result.output
    record, rows = strict(result.stdout), strict((tmp_path / "a" / "detections.json").read_text())
    assert {image["objects"] + image["not_finite"] for image in record["images"]} == {100}
    dropped = sum(image["not_finite"] for image in record["images"])
    assert 0 < dropped == 100 * COUNT - len(rows)
    text = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "b")]).stdout
    assert text.count(f"{dropped} detections on {COUNT} images are left out: their boxes or scores are not finite") == 1


def test_eval_leaves_them_out_and_counts_them(pictures: Path, weights: Path, tmp_path: Path) -> None:
    command = ["eval", "--coco", str(pictures), "--ckpt", str(weights), "--workers", "0"]
    result = CliRunner().invoke(main, [*command, "--json", "--detections", str(tmp_path / "d.json")])
    assert result.exit_code == 0, result.output
    record, rows = strict(result.stdout), strict((tmp_path / "d.json").read_text())
    assert len(record["not_finite"]) == COUNT
    dropped = sum(record["not_finite"].values())
    assert record["detections"] == len(rows) == 100 * COUNT - dropped
    assert record["metrics"]["AP"] >= 0
    text = CliRunner().invoke(main, command).stdout
    assert f"\n{dropped} detections on {COUNT} images are left out: " in text


def test_what_a_finished_image_left_out_is_read_back(pictures: Path, weights: Path, tmp_path: Path) -> None:
    command = ["eval", "--coco", str(pictures), "--ckpt", str(weights), "--workers", "0"]
    command += ["--detections", str(tmp_path / "d.json"), "--json"]
    whole = strict(CliRunner().invoke(main, command).stdout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("effconv.parity.evaluation.evaluate.evaluate", None)  # the run ends when all images are done
        assert CliRunner().invoke(main, command).exit_code == 1
    assert list(tmp_path.glob("d.json.parts/*"))
    read: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        of_parts = Parts.read
        patch.setattr(Parts, "read", lambda parts: read.append(1) or of_parts(parts))
        resumed = strict(CliRunner().invoke(main, [*command, "--resume"]).stdout)
    assert read == [1]
    assert resumed["not_finite"] == whole["not_finite"]


def test_sides_count_too() -> None:
    """Corners that are finite may be further apart than float32 can say."""
    far = 3e38
    boxes = torch.tensor([[0.0, 0, 1, 1], [-far, 0, far, 1], [0, float("nan"), 1, 1], [0, 0, 1, 1]])
    prediction = Prediction(
        boxes, torch.tensor([0.9, 0.8, 0.7, float("inf")]), torch.tensor([1, 2, 3, 4]), ("a", "b", "c", "d")
    )
    assert prediction.finite().categories.tolist() == [1]
    assert prediction.finite().names == ("a",)
