"""`effconv demo`: the embedded detector's whole way, with TensorFlow and without, and that each step can fail."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from effconv.cli import main
from effconv.convert.conversion import Conversion, write_weights
from effconv.convert.layers import layers
from effconv.convert.rules import rules
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.preprocessing.decode import decode, read_encoded
from effconv.loading import load
from effconv.parity import embedded
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.published_rows import VERDICT_LIMIT
from effconv.parity.verification import demo
from page_layout import MEGABYTE

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
    monkeypatch.setitem(sys.modules, "tensorflow", None)


def outcomes(result: Result) -> dict[str, bool | None]:
    return {step["name"]: step["holds"] for step in json.loads(result.stdout)["steps"]}


def test_without_tensorflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_tensorflow(monkeypatch)
    result = run(tmp_path / "demo")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [re.split(r"  +| (?=holds|not proven)", line)[0] for line in lines[1:6]] == NAMES
    told = [line.split(": ")[0] for line in result.stderr.splitlines() if line.split(": ")[0] in NAMES]
    assert told == NAMES  # each as soon as it is done
    assert "20 of 20 pictures have TensorFlow's list" in result.stdout
    count = len(rules(get_config(str(embedded.CONFIG))))
    assert (
        f"{count} of {count} written tensors are the checkpoint's bit for bit, as read by effconv (not covered "
        in lines[2]
    )
    assert lines[0] == "shapes: no step fails, but not every step is proven"  # of other pictures than were recorded
    page = (tmp_path / "demo" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 * demo.STRIPS
    assert page.count("data:image/png;base64,") == 1
    assert len(page) < MEGABYTE
    assert "shapes: no step fails, but not every step is proven" in page
    assert "://" not in page  # nothing is fetched
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
    assert "as read by TensorFlow" in steps["conversion"]["verdict"]
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
    record |= digests(tmp_path / "demo" / "pictures")
    for change, status in ((0.0, 0), (2 * VERDICT_LIMIT, 1)):
        record["metrics"] = {**mine, "AR10": mine["AR10"] + change}
        (tmp_path / "scores.json").write_text(json.dumps(record))
        monkeypatch.setattr(demo, "SCORES", tmp_path / "scores.json")
        result = run(tmp_path / "demo", "--json")
        assert result.exit_code == status
        assert outcomes(result)["metrics"] is (status == 0)


def digests(pictures: Path) -> dict[str, str]:
    """What the record of these pictures would say they are."""
    dataset = read_dataset(pictures)
    return {"annotations_sha256": dataset.sha256, "pictures_sha256": embedded.pixel_digest(dataset)}


@pytest.mark.parametrize("key", ["backbone.stem.conv.weight", "class_head.predict.pointwise.bias"])
def test_a_wrong_written_value_is_found(key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file that was written is read, not what was to be written: one value is off by its last bit."""
    without_tensorflow(monkeypatch)
    monkeypatch.setattr(embedded, "HELD_OUT_IMAGES", 20)
    untouched: list[Conversion] = []

    def write(conversion: Conversion, path: Path) -> Path:
        untouched.append(conversion)
        state = {name: array.copy() for name, array in conversion.state.items()}
        state[key].flat[-1] = np.nextafter(state[key].flat[-1], np.float32(np.inf))
        return write_weights(conversion._replace(state=state), path)

    monkeypatch.setattr(demo, "write_weights", write)
    result = run(tmp_path / "demo", "--json")
    assert result.exit_code == 1
    step = json.loads(result.stdout)["steps"][1]
    assert (step["name"], step["holds"]) == ("conversion", False)
    count = len(untouched[0].state)
    assert step["verdict"].startswith(f"{count - 1} of {count} written tensors are the checkpoint's bit for bit")
    assert f"1 differ: {key} (" in step["verdict"]


def test_pictures_with_one_other_pixel_prove_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_tensorflow(monkeypatch)
    monkeypatch.setattr(embedded, "HELD_OUT_IMAGES", 20)

    def as_bitmaps(folder: Path, change: int) -> None:
        """The same pixels in a format without loss, but for one value of the last picture."""
        embedded.write_held_out(folder)
        paths = sorted((folder / embedded.SPLIT).iterdir())
        for path in paths:
            pixels = decode(read_encoded(path))
            if path == paths[-1]:
                pixels[0, 0, 0] ^= change
            Image.fromarray(pixels).save(path, "BMP")

    as_bitmaps(tmp_path / "as recorded", 0)
    mine = run(tmp_path / "first", "--json")
    metrics = {row["metric"]: row["ours"] for row in json.loads(mine.stdout)["metrics"]}
    record = json.loads(embedded.SCORES.read_text()) | digests(tmp_path / "as recorded") | {"metrics": metrics}
    (tmp_path / "scores.json").write_text(json.dumps(record))
    monkeypatch.setattr(demo, "SCORES", tmp_path / "scores.json")
    for change, holds in ((0, True), (1, None)):
        monkeypatch.setattr(demo, "write_held_out", lambda folder, report, change=change: as_bitmaps(folder, change))
        result = run(tmp_path / f"demo {change}", "--json")
        assert result.exit_code == 0
        found = outcomes(result)
        assert (found["pictures"], found["metrics"]) == (holds, holds)
        assert ("not those recorded" in result.stdout) is (holds is None)


def test_an_incomplete_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(embedded.FOLDER, tmp_path / "shapes")
    (tmp_path / "shapes" / "trace.npz").unlink()
    monkeypatch.setattr(embedded, "TRACE", tmp_path / "shapes" / "trace.npz")
    result = run(tmp_path / "demo")
    assert result.exit_code == 2
    assert "trace.npz: missing; it ships with effconv" in result.stderr
    assert not (tmp_path / "demo").exists()
