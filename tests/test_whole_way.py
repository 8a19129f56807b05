"""The whole way of a user: own pictures in YOLO's layout, checked, fine-tuned on, evaluated, exported to every format.

Every exported file finds on 20 pictures what the trained model finds: read by its own runtime, and compared by rules of
this file, without exceptions for scores at the threshold. No score is at it: trained weights differ a little from one
machine to another, so the threshold is put where the model's scores have a gap.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from dataset_layouts import write_yolo
from numpy.typing import NDArray
from recipe_pages import MINE, write_mine

import effconv
from effconv.cli import main
from effconv.effdet_torch.engines.onnx_detector import Detecting, pixel_constants
from effconv.effdet_torch.postprocessing.postprocess import combined
from effconv.parity.comparison.exported import given_images
from effconv.parity.embedded import CONFIG, FOLDER

pytestmark = [
    pytest.mark.slow,
    pytest.mark.tf,
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated"),
]
PICTURES, SIDE = 20, 128
PIXELS, SCORES = 1e-3, 1e-5
Found = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]  # boxes, scores, categories, count of a batch


def run(*words: object) -> dict[str, Any]:
    """What a command says with --json."""
    result = CliRunner().invoke(main, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(result.stdout)
    return record


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mine/`, a dataset, and `run/`, what came of fine-tuning on it."""
    pytest.importorskip("yaml")
    folder = tmp_path_factory.mktemp("way")
    for split, images, seed in (("train", 16, 3), ("valid", PICTURES, 4)):
        write_mine(folder, split, images, seed, write_yolo)
    checked = run("check", folder / "mine", "--split", "train", "--model", CONFIG)
    assert [each["name"] for each in checked["statistics"]["categories"]] == [*MINE.values()]
    start = ("--from", FOLDER, "--model", CONFIG, "--epochs", 10, "--eval-every", 10, "--workers", 0)
    run("finetune", folder / "mine", *start, "-o", folder / "run")
    return folder


@pytest.fixture(scope="module")
def pixels(way: Path) -> NDArray[np.uint8]:
    """The pictures that were not trained on, as files of uint8 take them."""
    config = effconv.load(way / "run" / "model.safetensors").config
    paths = sorted((way / "mine" / "images" / "valid").iterdir())
    assert len(paths) == PICTURES
    return given_images(config, Detecting(config.image_size, pixels=True), [each.read_bytes() for each in paths])


class Trained(NamedTuple):
    """What the trained model finds on the pictures above a threshold, suppressed hard within classes."""

    threshold: float
    found: Found


@pytest.fixture(scope="module")
def trained(way: Path, pixels: NDArray[np.uint8]) -> Trained:
    """Above about 0.04: in the widest gap between two scores that are near it, at which no rounding moves one over."""
    model = effconv.load(way / "run" / "model.safetensors")
    mean, std = pixel_constants(model.config)
    with torch.inference_mode():
        outputs = model(((torch.from_numpy(pixels).float() - mean) / std).permute(0, 3, 1, 2))
    near = np.unique(combined(model.config, 0.03)(*outputs).scores.double().numpy())
    near = near[(near > 0.03) & (near < 0.05)]
    gap = np.diff(near).argmax()
    assert near[gap + 1] - near[gap] > 10 * SCORES
    threshold = float((near[gap] + near[gap + 1]) / 2)
    found = combined(model.config, threshold)(*outputs)
    assert found.valid.max() < found.scores.shape[1], "a picture has no room for more, and rounding may say for which"
    return Trained(threshold, tuple(each.numpy() for each in (found.boxes, found.scores, found.classes, found.valid)))


def test_an_evaluation_knows_the_categories(way: Path) -> None:
    record = run("eval", "--coco", way / "mine", "--ckpt", way / "run" / "model.safetensors", "--nms", "hard")
    assert record["images"] == PICTURES
    assert record["metrics"]["AP50"] > 0.1


def by_onnxruntime(path: Path, pixels: NDArray[np.uint8]) -> tuple[Found, str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(["boxes", "scores", "categories", "count"], {"images": pixels})
    return tuple(found), session.get_modelmeta().custom_metadata_map["names"]


def by_tflite(path: Path, pixels: NDArray[np.uint8]) -> tuple[Found, str]:
    import tensorflow

    runner = tensorflow.lite.Interpreter(str(path)).get_signature_runner()
    each = [{key: value.copy() for key, value in runner(images=image[None]).items()} for image in pixels]
    boxes, scores, classes, count = (
        np.concatenate([one[key] for one in each]) for key in ("boxes", "scores", "classes", "count")
    )
    names = json.loads(zipfile.ZipFile(path).read("effconv.json"))["names"]
    return (np.clip(boxes * SIDE, 0, SIDE), scores, classes + 1, count.astype(int)), json.dumps(names)


def by_pytorch(path: Path, pixels: NDArray[np.uint8]) -> tuple[Found, str]:
    files = {"effconv.json": ""}
    found = torch.export.load(path, extra_files=files).module()(torch.from_numpy(pixels))
    names = json.dumps(json.loads(files["effconv.json"])["names"])
    return tuple(found[key].detach().numpy() for key in ("boxes", "scores", "categories", "count")), names


def by_tensorflow(path: Path, pixels: NDArray[np.uint8]) -> tuple[Found, str]:
    import tensorflow

    found = tuple(each.numpy() for each in tensorflow.saved_model.load(str(path))(pixels))
    return found, json.dumps(json.loads((path / "assets.extra" / "effconv.json").read_text())["names"])


READERS: dict[str, Callable[[Path, NDArray[np.uint8]], tuple[Found, str]]] = {
    "onnx": by_onnxruntime,
    "tflite": by_tflite,
    "pt2": by_pytorch,
    "savedmodel": by_tensorflow,
}


@pytest.mark.parametrize("kind", READERS)
def test_what_is_exported_finds_what_the_trained_model_finds(
    kind: str, way: Path, pixels: NDArray[np.uint8], trained: Trained
) -> None:
    path, ours = way / f"mine.{kind}", trained.found
    words = ("--ckpt", way / "run" / "model.safetensors", "--check-on", way / "mine" / "images" / "valid")
    said = run("export", kind, *words, "--input", "uint8", "--min-score", trained.threshold, "-o", path)
    theirs, names = READERS[kind](path, pixels)
    assert json.loads(names) == {str(number): name for number, name in MINE.items()}
    check = said["check"].get("exact") or said["check"]
    assert check["objects"] == ours[3].sum() > 5 * PICTURES
    np.testing.assert_array_equal(theirs[3], ours[3])
    for image, count in enumerate(ours[3]):
        left = _rows(theirs, image, count)
        for row in _rows(ours, image, count):
            away = np.abs(left - row).max(1)
            assert away.min() <= 1, f"picture {image}: {row}: the nearest is {left[away.argmin()]}"
            left = np.delete(left, away.argmin(), 0)


def _rows(found: Found, image: int, count: int) -> NDArray[np.float64]:
    """(count, 6) [category, score, box] of an image, in units of what each may be off by."""
    boxes, scores, categories = (each[image, :count].astype(np.float64) for each in found[:3])
    return np.column_stack([categories * 2, scores / SCORES, boxes / PIXELS])
