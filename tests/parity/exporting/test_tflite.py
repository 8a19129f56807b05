"""TFLite detectors: the model's objects by TensorFlow's interpreter, and a file that finds others is not kept."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.convert.output_kinds import TFLITE, may_replace
from effconv.effdet_torch.engines.onnx_detector import Detecting
from effconv.effdet_torch.postprocessing.detections import Detections
from effconv.parity.exporting import tflite as exporting
from effconv.parity.reference import tflite as reference
from effconv.parity.reference.network import import_tensorflow
from tiny_models import load_tiny

pytestmark = [pytest.mark.tf, pytest.mark.slow]
SHAPES = Path(__file__).resolve().parents[3] / "examples" / "shapes"
MODEL = ("--model", SHAPES / "config.json", "--ckpt", SHAPES)
LITE = Path(__file__).resolve().parents[2] / "golden" / "tiny-lite"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `pictures/`, an exported detector of pixels, `d.tflite`, and what the command said of it, `d.json`."""
    folder = tmp_path_factory.mktemp("exported")
    made = run("shapes", "-o", folder / "drawn", "--size", "120x144", "--images", 6, "--seed", 3)
    assert made.exit_code == 0, made.output
    (folder / "drawn" / "val2017").rename(folder / "pictures")
    on = ("--check-on", folder / "pictures")
    result = run("export", "tflite", *MODEL, *on, "--input", "uint8", "-o", folder / "d.tflite", "--json")
    assert result.exit_code == 0, result.output
    (folder / "d.json").write_text(result.stdout)
    return folder


def test_the_file_is_run_before_it_is_kept(folder: Path) -> None:
    record = json.loads((folder / "d.json").read_text())
    assert record["input"] == [1, 128, 128, 3]
    assert sorted(record["outputs"]) == sorted(reference.OUTPUTS)
    check = record["check"]["exact"]
    assert (check["ok"], check["images"], check["missing"], check["added"]) == (True, 6, 0, 0)
    assert check["objects"] > 50


def test_the_file_says_what_it_is(folder: Path) -> None:
    with zipfile.ZipFile(folder / "d.tflite") as archive:
        about = json.loads(archive.read("effconv.json"))
    assert about["input"] == {"size": [128, 128], "kind": "uint8"}
    assert about["names"] == {}  # this model has none
    assert len(about["weights_sha256"]) == 64
    assert about["config"]["num_classes"] == 11
    assert may_replace(folder / "d.tflite", TFLITE)


def test_the_script_of_the_documentation_needs_nothing_of_effconv(folder: Path, repository: Path) -> None:
    text = (repository / "docs" / "deploy.md").read_text().partition("## TFLite")[2]
    code = text.partition("```python\n")[2].partition("```")[0]
    assert "effconv" not in code.replace("effconv.json", "")
    (folder / "detect.py").write_text(code)
    picture = sorted((folder / "pictures").iterdir())[0]
    words = [sys.executable, "detect.py", "d.tflite", str(picture)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines
    assert all(re.fullmatch(r"[\w ]+ 0\.\d\d at \(-?\d+, -?\d+\) to \(\d+, \d+\)", line) for line in lines), lines


def shifted(settings: str, value: str) -> Any:
    """A fault: the operation's settings with one of another value."""
    marked = reference.marked
    return lambda *given: re.sub(rf'("{settings}" value {{ \w: )[^ ]+', rf"\g<1>{value}", marked(*given))


def swapped(outputs: Any, config: Any) -> Any:
    logits, codes = FLAT(outputs, config)
    return reference.import_tensorflow().reverse(logits, [2]), codes


FLAT = reference.flat_outputs
CENTRED = reference.centred_anchors
FAULTS = {
    "another overlap": ("marked", shifted("nms_iou_threshold", "0.9")),
    "another threshold": ("marked", shifted("nms_score_threshold", "0.2")),
    "the fast rule": ("marked", shifted("use_regular_nms", "false")),
    "another scale of codes": ("marked", shifted("h_scale", "1.001")),
    "classes in another order": ("flat_outputs", swapped),
    "anchors' sides swapped": ("centred_anchors", lambda config: CENTRED(config)[:, [1, 0, 3, 2]]),
    "anchors off by 0.003 pixels": ("centred_anchors", lambda config: CENTRED(config) + np.float32(2e-5)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_finds_other_objects_is_not_kept(
    fault: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, change = FAULTS[fault]
    monkeypatch.setattr(reference, name, change)
    result = run("export", "tflite", *MODEL, "--check-on", folder / "pictures", "-o", tmp_path / "x.tflite")
    assert result.exit_code == 1, result.output
    assert "not the model: of" in result.stderr
    assert "the file was not kept" in result.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_other_precisions_are_smaller_and_find_most_again(precision: str, folder: Path, tmp_path: Path) -> None:
    path, pictures = tmp_path / "x.tflite", folder / "pictures"
    more = ("--calibrate-on", pictures) if precision == "int8" else ("--check-on", pictures)
    result = run("export", "tflite", *MODEL, "--precision", precision, *more, "-o", path, "--json")
    assert result.exit_code == 0, result.output
    check = json.loads(result.stdout)["check"]
    assert check["exact"]["ok"]
    assert check["rounded"]["objects"] > 5
    again = run("parity", "--engine", path, "--ckpt", SHAPES, "--image", pictures)
    assert again.exit_code == 0, again.output
    found, objects = check["rounded"]["found"], check["rounded"]["objects"]
    assert f"in {precision} the file finds {found} of {objects} objects" in again.stdout
    assert path.stat().st_size < 0.6 * (folder / "d.tflite").stat().st_size


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_kernel_of_int8_has_a_scale_for_each_channel_or_one(per_channel: bool) -> None:
    model = load_tiny(LITE)
    detecting = Detecting(model.config.image_size)
    detector = exporting.tflite_detector(model, detecting, raw=True)
    images = [np.random.default_rng(0).normal(size=(*detecting.size, 3)).astype(np.float32)]
    content = detector.convert("int8", images, per_channel=per_channel)
    details = import_tensorflow().lite.Interpreter(model_content=content).get_tensor_details()
    kernels = [each for each in details if each["dtype"] == np.int8 and len(each["shape"]) == 4]
    assert (max(len(each["quantization_parameters"]["scales"]) for each in kernels) > 1) == per_channel


def test_ranges_of_other_images_make_another_detector(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "official_images", lambda config, *_: [np.zeros((128, 128, 3), np.float32)])
    more = ("--precision", "int8", "--calibrate-on", folder / "pictures")
    result = run("export", "tflite", *MODEL, *more, "-o", tmp_path / "x.tflite")
    assert result.exit_code == 1, result.output
    assert "expected more than half" in result.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--precision", "int8"), "--precision int8: name a folder of pictures to calibrate on (--calibrate-on)"),
        (("--calibrate-on", "x"), "--calibrate-on: not used by --precision float32; leave it out"),
        (("--raw", "--min-score", 0.2), "--min-score: not used by --raw; leave it out"),
        (("--no-check", "--check-on", "x"), "--check-on: not used by --no-check; leave it out"),
        (("-o", "x.onnx"), "x.onnx: expected a file ending in .tflite"),
    ],
)
def test_bad_input_is_a_line(
    words: tuple[object, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("export", "tflite", *MODEL, *words)
    assert (result.exit_code, result.stderr) == (2, f"effconv: {message}\n")
    assert not [*tmp_path.iterdir()]


def test_objects_are_found_again_by_category_and_overlap() -> None:
    def of(*rows: tuple[float, float, int]) -> Detections:
        boxes = torch.tensor([[[row[0], 0.0, row[0] + 10, 10.0] for row in rows]])
        scores, classes = torch.tensor([[row[1] for row in rows]]), torch.tensor([[row[2] for row in rows]])
        return Detections(boxes, scores, classes, torch.tensor([len(rows)]))

    ours = of((0, 0.9, 1), (40, 0.8, 2), (80, 0.6, 3), (90, 0.3, 3))
    for theirs, found in (
        (ours, 3),
        (of((1, 0.2, 1), (41, 0.7, 2)), 2),
        (of((1, 0.9, 2), (41, 0.8, 1), (81, 0.6, 3)), 1),
        (of((8, 0.9, 1)), 0),
    ):
        check = exporting.found_again(ours, theirs, "a runtime")
        assert (check.objects, check.found, check.ok) == (3, found, found > 1)
