"""SavedModels: the model's objects by TensorFlow, with the official signature; one that finds others is not kept."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_detectors import MODEL, checked, export, run

from effconv.convert.output_kinds import SAVED_MODEL, SAVED_MODEL_FILE, may_replace
from effconv.parity.comparison.exported import PIXELS, SCORES
from effconv.parity.reference import saved_model as reference
from effconv.parity.traces.images import drawn
from kept_runs import SWISH
from tiny_models import load_tiny

pytestmark = [pytest.mark.tf, pytest.mark.slow]
FOLDER = "d.savedmodel"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an exported detector of pixels, `d.savedmodel/`, and what the command said of it, `d.json`."""
    return export(tmp_path_factory.mktemp("exported"), "savedmodel")


def test_the_folder_is_run_before_it_is_kept(folder: Path) -> None:
    record = checked(folder)
    assert record["input"] == ["batch", 64, 64, 3]
    assert record["outputs"] == [f"output_{place}" for place in range(4)]
    assert sorted(each.name for each in folder.iterdir()) == ["d.json", FOLDER]
    assert record["bytes"] == sum(each.stat().st_size for each in (folder / FOLDER).rglob("*") if each.is_file())


def test_the_folder_says_what_it_is(folder: Path) -> None:
    about = json.loads((folder / FOLDER / "assets.extra" / "effconv.json").read_text())
    assert about["input"] == {"size": [64, 64], "kind": "uint8"}
    assert len(about["weights_sha256"]) == 64


def test_the_signature_is_that_of_the_official_export(folder: Path) -> None:
    tensorflow = reference.import_tensorflow()
    model = tensorflow.saved_model.load(str(folder / FOLDER))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    served = model.signatures["serving_default"]
    assert list(served.structured_input_signature[1]) == ["images"]
    found = [served(images=pixels)[f"output_{place}"].numpy() for place in range(4)]
    assert [each.shape for each in found] == [(5, 100, 4), (5, 100), (5, 100), (5,)]
    assert [each.dtype.name for each in found] == ["float32", "float32", "float32", "int32"]
    assert found[2].min() == 1
    assert (found[0].min(), found[0].max()) == (0, 64)
    for called, same in zip(model(pixels), found, strict=True):
        np.testing.assert_array_equal(called.numpy(), same)
    boxes, scores, classes, number = (each.numpy() for each in model(pixels[-1:]))
    assert number[0] == found[3][-1] > 0
    np.testing.assert_array_equal(classes[0], found[2][-1])
    np.testing.assert_allclose(boxes[0], found[0][-1], rtol=0, atol=PIXELS)
    np.testing.assert_allclose(scores[0], found[1][-1], rtol=0, atol=SCORES)


def test_the_network_alone_is_the_official_predict(tmp_path: Path) -> None:
    assert run("export", "savedmodel", *MODEL, "--raw", "-o", tmp_path / "raw").exit_code == 0
    images = torch.randn(3, 3, 64, 64)
    model = reference.import_tensorflow().saved_model.load(str(tmp_path / "raw"))
    found = model.predict(images.permute(0, 2, 3, 1).numpy())
    with torch.inference_mode():
        logits, codes = load_tiny(SWISH)(images)
    for one, other in zip(found, [*logits, *codes], strict=True):
        torch.testing.assert_close(torch.from_numpy(one.numpy()), other.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


def test_the_script_of_the_documentation_needs_nothing_but_tensorflow(folder: Path, repository: Path) -> None:
    text = (repository / "docs" / "deploy.md").read_text().partition("## TensorFlow Serving")[2]
    code = text.partition("```python\n")[2].partition("```")[0]
    assert re.findall(r"(?m)^(?:import|from) (\w+)", code) == ["json", "sys", "tensorflow"]
    (folder / "detect.py").write_text(code)
    (folder / "picture.jpg").write_bytes(drawn(2, (256, 256)))
    words = [sys.executable, "detect.py", FOLDER, "picture.jpg"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 5
    assert all(re.fullmatch(r"category \d 0\.\d\d at \(\d+, \d+\) to \(\d+, \d+\)", line) for line in lines), lines


BOXES, FLAT = reference.official_boxes, reference.flat_outputs


def swapped(outputs: Any, config: Any) -> Any:
    logits, codes = FLAT(outputs, config)
    return reference.import_tensorflow().reverse(logits, [2]), codes


FAULTS = {
    "another overlap": ("OVERLAP", 0.9),
    "classes in another order": ("flat_outputs", swapped),
    "boxes off by 0.003 pixels": ("official_boxes", lambda *given: BOXES(*given) + 3e-3),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_finds_other_objects_is_not_kept(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, *FAULTS[fault])
    result = run("export", "savedmodel", *MODEL, "--min-score", 0.1, "-o", tmp_path / "x")
    assert result.exit_code == 1, result.output
    assert "not the model: of" in result.stderr
    assert not [*tmp_path.iterdir()]


def test_only_its_own_folder_is_replaced(folder: Path) -> None:
    mine, again = folder / FOLDER, ("export", "savedmodel", *MODEL, "--no-check", "-o", folder / FOLDER)
    assert may_replace(mine / SAVED_MODEL_FILE, SAVED_MODEL)
    before = (mine / SAVED_MODEL_FILE).stat().st_ino
    (mine / "notes.txt").write_text("theirs")
    for forced in ((), ("--force",)):
        result = run(*again, *forced)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert "it has another file, notes.txt" in result.stderr
    assert (mine / "notes.txt").read_text() == "theirs"
    (mine / "notes.txt").unlink()
    (mine / "assets.extra" / "effconv.json").write_text("{}")
    assert "exists, and is not an unchanged SavedModel that effconv wrote" in run(*again).stderr
    assert run(*again, "--force").exit_code == 0
    assert (mine / SAVED_MODEL_FILE).stat().st_ino != before
    assert may_replace(mine / SAVED_MODEL_FILE, SAVED_MODEL)
    assert not [each for each in folder.iterdir() if each.name.startswith(".")]


def test_a_folder_of_other_files_stays_even_if_forced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("theirs")
    result = run("export", "savedmodel", *MODEL, "--force", "-o", tmp_path)
    assert (result.exit_code, result.stderr) == (
        2,
        f"effconv: {tmp_path}: cannot be written (it has another file, notes.txt); choose another output\n",
    )
    assert os.listdir(tmp_path) == ["notes.txt"]
