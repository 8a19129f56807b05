"""`effconv demo`: the embedded detector's whole way, with TensorFlow and without, and that each step can fail."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.convert.layers import layers
from effconv.effdet_torch.config import get_config
from effconv.loading import load
from effconv.parity import demo, embedded
from effconv.parity.records import VERDICT_LIMIT

NAMES = ["pictures", "conversion", "layers", "from bytes to detections", "metrics"]


@pytest.fixture(autouse=True)
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the pictures; their annotations are then not the recorded ones."""
    monkeypatch.setattr(embedded, "HELD_OUT_IMAGES", 50)


def run(output: Path, *options: str) -> Result:
    result = CliRunner().invoke(main, ["demo", "-o", str(output), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "version", lambda name: None)


def outcomes(result: Result) -> dict[str, bool | None]:
    return {step["name"]: step["holds"] for step in json.loads(result.stdout)["steps"]}


def test_without_tensorflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_tensorflow(monkeypatch)
    result = run(tmp_path / "demo")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [re.split(r"  +| (?=holds|not proven)", line)[0] for line in lines[:5]] == NAMES
    assert "20 of 20 pictures have TensorFlow's list" in result.stdout
    assert lines[-2] == "nothing changed on the way"
    page = (tmp_path / "demo" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == demo.DRAWN + 1
    assert "shapes: nothing changed on the way" in page
    assert "http" not in page  # nothing is fetched
    record = json.loads((tmp_path / "demo" / "demo.json").read_text())
    assert record["reference"] == "TensorFlow, recorded"
    assert len(record["layers"]["rows"]) == len(layers(get_config(str(embedded.CONFIG))))
    assert load(tmp_path / "demo" / "shapes.safetensors").config == get_config(str(embedded.CONFIG))


@pytest.mark.tf
def test_with_tensorflow(tmp_path: Path) -> None:
    result = run(tmp_path / "demo", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["reference"] == "TensorFlow, run live"
    steps = {step["name"]: step for step in record["steps"]}
    assert list(steps) == NAMES
    assert all(steps[name]["holds"] for name in NAMES[1:4])
    # Other pictures than those whose metrics are recorded: nothing is claimed about them.
    assert steps["pictures"]["holds"] is steps["metrics"]["holds"] is None
    assert "8 images, 8 with identical detections" in steps["from bytes to detections"]["verdict"]


@pytest.mark.slow
def test_all_pictures_have_the_recorded_metrics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "HELD_OUT_IMAGES", 500)
    without_tensorflow(monkeypatch)
    result = run(tmp_path / "demo", "--json")
    assert result.exit_code == 0, result.output
    assert set(outcomes(result).values()) == {True}
    for row in json.loads(result.stdout)["metrics"]:
        assert row["ours"] == pytest.approx(row["official"], abs=VERDICT_LIMIT)


def test_another_batch_norm_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from effconv.effdet_torch import ops

    without_tensorflow(monkeypatch)
    monkeypatch.setattr(ops, "BATCH_NORM_EPSILON", 1e-5)
    result = run(tmp_path / "demo", "--json")
    assert result.exit_code == 1
    assert outcomes(result)["layers"] is False
    assert "first backbone.stem.norm" in result.stdout


def test_other_detections_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_tensorflow(monkeypatch)
    with np.load(embedded.DETECTIONS) as file:
        rows = file["rows"].copy()
    best = np.argmax(rows[:, 5])
    rows[best, 1] += rows[best, 3]  # one box, moved by its width
    np.savez(tmp_path / "other.npz", rows=rows)
    monkeypatch.setattr(demo, "DETECTIONS", tmp_path / "other.npz")
    result = run(tmp_path / "demo", "--json")
    assert result.exit_code == 1
    assert outcomes(result)["from bytes to detections"] is False
    assert "19 of 20 pictures have TensorFlow's list" in result.stdout


def test_other_metrics_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_tensorflow(monkeypatch)
    monkeypatch.setattr(embedded, "HELD_OUT_IMAGES", 20)
    first = run(tmp_path / "demo", "--json")
    mine = {row["metric"]: row["ours"] for row in json.loads(first.stdout)["metrics"]}
    record = json.loads(embedded.SCORES.read_text())
    from effconv.parity.dataset import read_dataset

    record["annotations_sha256"] = read_dataset(tmp_path / "demo" / "pictures").sha256
    for change, status in ((0.0, 0), (2 * VERDICT_LIMIT, 1)):
        record["metrics"] = {**mine, "AR10": mine["AR10"] + change}
        (tmp_path / "scores.json").write_text(json.dumps(record))
        monkeypatch.setattr(demo, "SCORES", tmp_path / "scores.json")
        result = run(tmp_path / "demo", "--json")
        assert result.exit_code == status
        assert outcomes(result)["metrics"] is (status == 0)


def test_an_incomplete_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(embedded.FOLDER, tmp_path / "shapes")
    (tmp_path / "shapes" / "trace.npz").unlink()
    monkeypatch.setattr(embedded, "TRACE", tmp_path / "shapes" / "trace.npz")
    result = run(tmp_path / "demo")
    assert result.exit_code == 2
    assert "trace.npz: missing; it ships with effconv" in result.stderr
    assert not (tmp_path / "demo").exists()
