"""Exported detectors: the same objects by other runtimes, and a file that finds others is not kept."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_detectors import MODEL, checked, export, run

from effconv.effdet_torch.engines import onnx_detector
from effconv.effdet_torch.engines.onnx_detector import OUTPUTS, Detecting
from effconv.effdet_torch.postprocessing.detections import Detections
from effconv.effdet_torch.postprocessing.postprocess import combined
from effconv.parity.comparison.exported import check_line, compared
from effconv.parity.traces.images import drawn
from kept_runs import SWISH
from tiny_models import load_tiny

TAKING = Detecting((64, 64), pixels=True, score_threshold=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an exported detector of pixels, `d.onnx`, and what the command said of it, `d.json`."""
    return export(tmp_path_factory.mktemp("exported"), "onnx")


def test_the_file_is_run_before_it_is_kept(folder: Path) -> None:
    record = checked(folder)
    assert (record["input"], record["outputs"]) == (["batch", 64, 64, 3], list(OUTPUTS))


@pytest.mark.parametrize("batch", [1, 5])
def test_other_runtimes_find_what_the_model_finds(folder: Path, batch: int) -> None:
    openvino = pytest.importorskip("openvino", reason="the runtime that this looks at is not installed")
    model = load_tiny(SWISH)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 64, 64, 3), np.uint8)
    compiled = openvino.Core().compile_model(folder / "d.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(pixels)
    theirs = Detections(*(torch.from_numpy(np.array(found[output])) for output in compiled.outputs))
    mean, std = (torch.tensor(each) for each in (model.config.mean, model.config.std))
    normalised = ((torch.from_numpy(pixels).float() - mean) / std).permute(0, 3, 1, 2)
    config = dataclasses.replace(model.config, image_size=(64, 64))
    with torch.inference_mode():
        ours = combined(config, 0.1)(*model(normalised))
    assert compared(ours, theirs, TAKING, "openvino").ok
    assert int(ours.valid.sum()) > 10 * batch
    for image, count in enumerate(theirs.valid):  # what is no object is zero
        assert not theirs.boxes[image, count:].any()
        assert not theirs.classes[image, count:].any()


@pytest.mark.parametrize("place", [0, 1])
def test_the_scripts_of_the_documentation_need_nothing_of_effconv(place: int, folder: Path, repository: Path) -> None:
    runtime = ("onnxruntime", "openvino")[place]
    pytest.importorskip(runtime, reason="the runtime that this script is for is not installed")
    text = (repository / "docs" / "deploy.md").read_text().partition("## A detector in one file")[2]
    code = text.split("```python\n")[1 + place].partition("```")[0]
    assert re.findall(r"(?m)^(?:import|from) (\w+)", code) == ["json", "sys", "numpy", runtime, "PIL"]
    (folder / "detect.py").write_text(code)
    (folder / "picture.jpg").write_bytes(drawn(2, (256, 256)))
    words = [sys.executable, "detect.py", "d.onnx", "picture.jpg"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 5
    assert all(re.fullmatch(r"category \d 0\.\d\d at \(\d+, \d+\) to \(\d+, \d+\)", line) for line in lines), lines


def test_a_file_that_finds_other_objects_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_detector, "OVERLAP", 0.95)
    result = run("export", "onnx", *MODEL, "--min-score", 0.1, "-o", tmp_path / "x.onnx")
    assert result.exit_code == 1
    assert "not the model: of" in result.stderr
    assert "the file was not kept" in result.stderr
    assert not [*tmp_path.iterdir()]


def detections(*rows: tuple[float, float, int]) -> Detections:
    """(top edge, score, category) of each object of one image."""
    boxes = torch.tensor([[[row[0], 1.0, 20.0, 30.0] for row in rows]]).reshape(1, len(rows), 4)
    scores = torch.tensor([[row[1] for row in rows]]).reshape(1, len(rows))
    categories = torch.tensor([[row[2] for row in rows]], dtype=torch.int64).reshape(1, len(rows))
    return Detections(boxes, scores, categories, torch.tensor([len(rows)]))


OURS = ((5.0, 0.9, 1), (6.0, 0.9, 1), (7.0, 0.5, 2))


@pytest.mark.parametrize(
    ("theirs", "wrong"),
    [
        (OURS, (0, 0)),
        ((OURS[1], OURS[0], OURS[2]), (0, 0)),  # of equal scores
        ((*OURS, (9.0, 0.100001, 3)), (0, 0)),  # at the threshold
        ((*OURS, (9.0, 0.2, 3)), (0, 1)),
        (OURS[:2], (1, 0)),
        ((*OURS[:2], (7.0, 0.5, 3)), (1, 1)),
        ((*OURS[:2], (7.01, 0.5, 2)), (1, 1)),
        ((*OURS[:2], (7.0, 0.501, 2)), (1, 1)),
        ((OURS[0], OURS[0], OURS[2]), (1, 1)),  # each is paired once
        ((), (3, 0)),
    ],
)
def test_objects_are_paired(theirs: tuple[tuple[float, float, int], ...], wrong: tuple[int, int]) -> None:
    check = compared(detections(*OURS), detections(*theirs), TAKING, "a runtime")
    assert (check.missing, check.added, check.ok) == (*wrong, wrong == (0, 0))
    assert ("not the model" in check_line(check)) is not check.ok


def test_nothing_found_proves_nothing() -> None:
    check = compared(detections(), detections(), TAKING, "a runtime")
    assert check_line(check).startswith("not proven: the model finds no object")
