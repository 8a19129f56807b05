"""Exported files, evaluated and held against the model: the same AP, the same objects, and what is refused."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_detectors import MODEL, export, run
from numpy.typing import NDArray
from onnx import TensorProto, helper, load, numpy_helper, save
from torch import Tensor

import effconv
from effconv.effdet_torch.engines import program
from effconv.effdet_torch.engines.onnx_detector import Detecting
from effconv.effdet_torch.postprocessing.detections import Detections, coco_rows
from effconv.effdet_torch.postprocessing.postprocess import clip_boxes, unclipped
from effconv.effdet_torch.preprocessing.preprocess import Preprocessor
from effconv.parity.comparison.exported import DRAWN, found_by_model, given_images
from effconv.parity.datasets.layouts import read_dataset
from effconv.parity.evaluation.coco import evaluate
from effconv.parity.exporting import exported as exporting
from effconv.parity.traces.images import drawn
from kept_runs import SWISH
from small_datasets import write_dataset
from tiny_models import load_tiny

pytestmark = pytest.mark.slow
DETECTING = Detecting((64, 64), pixels=True, score_threshold=0.1)  # of `exported_detectors.export`
DAMAGED = ("damaged/saved_model.pb", "damaged/assets.extra/effconv.json")
FORMATS = ["onnx", "pt2", *(pytest.param(kind, marks=pytest.mark.tf) for kind in ("tflite", "savedmodel"))]
PICTURES = [drawn(seed, size) for seed, size in enumerate(DRAWN)]


@pytest.fixture(scope="module")
def program_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("program"), "pt2") / "d.pt2"


@pytest.fixture(scope="module", params=FORMATS)
def file(request: pytest.FixtureRequest, program_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of pixels."""
    if request.param == "pt2":
        return program_file
    return export(tmp_path_factory.mktemp("exported"), request.param) / f"d.{request.param}"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of another detector of the same model."""
    network = load_tiny(SWISH)
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 1.03
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    effconv.save(network, path)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn pictures, whose true boxes are every other one that the model finds, moved a little."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "val2017").mkdir()
    images, truth = [], []
    for number, (encoded, (height, width)) in enumerate(zip(PICTURES, DRAWN, strict=True)):
        (folder / "val2017" / f"{number}.jpg").write_bytes(encoded)
        images.append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
    rows = found(clip_boxes)
    for row in rows[rows[:, 3:5].min(1) > 0][::2]:  # some lie wholly beyond the edges
        box = [float(each) for each in np.add(row[1:5], [0, 0, row[3] * 0.1, 0])]
        of = {"image_id": int(row[0]), "category_id": int(row[6]), "bbox": box, "area": box[2] * box[3]}
        truth.append({"id": len(truth), "iscrowd": 0, **of})
    categories = [{"id": number, "name": f"thing {number}"} for number in range(1, 8)]
    return write_dataset(folder, {"images": images, "annotations": truth, "categories": categories})


def found(clip: Any) -> NDArray[np.float32]:
    """What the model finds on the pictures with hard suppression, in COCO's rows."""
    network = load_tiny(SWISH)
    detections = found_by_model(network, DETECTING, given_images(network.config, DETECTING, PICTURES), clip)
    preprocess = Preprocessor(network.config, DETECTING.size)
    scaled: Detections = detections.scaled(torch.tensor([float(preprocess(each)[1]) for each in PICTURES]))
    rows = coco_rows(scaled, range(len(PICTURES)))
    return np.concatenate([rows[image, : int(count)] for image, count in enumerate(scaled.valid)])


def evaluated(dataset: Path, *words: object) -> dict[str, Any]:
    result = run("eval", "--coco", dataset, "--workers", 0, "--json", *words)
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(result.stdout)
    return record


def test_a_file_scores_as_the_model_does(file: Path, dataset: Path) -> None:
    record = evaluated(dataset, "--engine", file, "--ckpt", SWISH, "--batch", 3)
    rows = found(unclipped if file.suffix == ".tflite" else clip_boxes).astype(np.float64)
    expected = evaluate(read_dataset(dataset), rows).metrics
    assert record["metrics"] == pytest.approx(expected, abs=1e-4)
    assert 0.1 < record["metrics"]["AP"] < 0.9
    assert record["detections"] == len(rows) > 50
    assert (record["model"], record["exported"]["file"]) == ("tiny-swish", file.name)
    assert record["exported"]["input"] == "uint8"
    assert record["network_engine"] == record["exported"]["runtime"]
    assert (record["conditions"]["nms"], record["conditions"]["score_threshold"]) == ("hard", 0.1)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_outputs_of_a_network_alone_are_decoded_and_suppressed(kind: str, dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / f"raw.{kind}"
    assert run("export", kind, *MODEL, "--raw", "-o", path).exit_code == 0
    for more in ((), ("--nms", "hard", "--min-score", 0.2)):
        ours = evaluated(dataset, *MODEL, *more)
        theirs = evaluated(dataset, "--engine", path, *more)
        assert theirs["metrics"] == pytest.approx(ours["metrics"], abs=1e-4)
        assert theirs["conditions"] == {**ours["conditions"], "weights": "as in the file"}
    if kind != "onnx":  # whose layers are compared
        result = run("parity", "--engine", path, "--ckpt", SWISH, "--json")
        assert result.exit_code == 0, result.output
        assert 0 < json.loads(result.stdout)["largest_output_difference"] < 1e-3


@pytest.mark.parametrize("file", FORMATS[1:], indirect=True)
def test_parity_holds_a_file_against_its_model(file: Path, dataset: Path, other: Path) -> None:
    pictures = ("--image", dataset / "val2017")
    good = run("parity", "--engine", file, "--ckpt", SWISH, *pictures)
    assert good.exit_code == 0, good.output
    assert "the same detector" in good.stdout
    assert "  0.jpg: 2 of 2 objects matched; boxes to " in good.stdout
    bad = run("parity", "--engine", file, "--ckpt", other, *pictures)
    assert bad.exit_code == 1, bad.output
    assert "NOT PROVEN" in bad.stdout
    assert "the weights are others than those that the file says it was made from" in bad.stdout
    assert "not the model: of" in bad.stdout


def test_a_file_of_these_weights_that_finds_others_is_not_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "OVERLAP", 0.95)
    assert run("export", "pt2", *MODEL, "--no-check", "-o", tmp_path / "x.pt2").exit_code == 0
    result = run("parity", "--engine", tmp_path / "x.pt2", "--ckpt", SWISH, "--json")
    record = json.loads(result.stdout)
    assert (result.exit_code, record["ok"], record["same_weights"]) == (1, False, True)
    assert record["exact"]["added"] > 0
    assert sum(each["added"] for each in record["pictures"]) > 0


@pytest.mark.parametrize("file", FORMATS[:1], indirect=True)
def test_a_graphs_layers_and_its_objects_are_compared(file: Path, dataset: Path, tmp_path: Path) -> None:
    words = ("parity", "--model", SWISH / "config.json", "--ckpt", SWISH, "--engine")
    good = run(*words, file, "--image", dataset / "val2017" / "0.jpg")
    assert good.exit_code == 0, good.output
    assert "layers hold; it finds the model's objects" in good.stdout
    assert "  0.jpg: 2 of 2 objects matched; boxes to " in good.stdout
    # Of these layers, and suppressing otherwise.
    graph = load(file)
    overlap = next(each for each in graph.graph.initializer if each.name == "overlap")
    overlap.CopyFrom(numpy_helper.from_array(np.array([0.95], np.float32), overlap.name))
    save(graph, tmp_path / "x.onnx")
    told = run(*words, tmp_path / "x.onnx", "--explain")
    assert told.stdout.splitlines()[-1].startswith("nothing to explain: no layer differs")
    assert "not explained" not in told.stdout
    bad = run(*words, tmp_path / "x.onnx", "--json")
    record = json.loads(bad.stdout)
    assert (bad.exit_code, record["ok"], record["first_failure"]) == (1, False, None)
    assert record["verdict"].endswith("layers hold; what it finds is NOT PROVEN to be the model's")
    assert (record["detections"]["ok"], record["detections"]["same_weights"]) == (False, True)
    assert record["detections"]["exact"]["added"] > 0


def test_nothing_found_proves_nothing(tmp_path: Path) -> None:
    assert run("export", "pt2", *MODEL, "--min-score", 0.99, "-o", tmp_path / "x.pt2").exit_code == 0
    result = run("parity", "--engine", tmp_path / "x.pt2", "--ckpt", SWISH)
    assert result.exit_code == 1
    assert "not proven: the model finds no object" in result.stdout


def test_weights_that_are_not_the_files_are_refused(program_file: Path, dataset: Path, other: Path) -> None:
    result = run("eval", "--coco", dataset, "--engine", program_file, "--ckpt", other)
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]  # after what is wrong with the dataset
    assert line.startswith(f"effconv: {other}: not the weights of {program_file}: expected sha256 ")


def test_a_file_is_its_images_pixels_rounded(program_file: Path) -> None:
    given: list[NDArray[Any]] = []
    file = exporting.open_exported(program_file)
    image: Tensor = torch.from_numpy(Preprocessor(file.about.config)(PICTURES[0])[0])
    given.append(file.taken(image[None]))
    mean, std = torch.tensor(file.about.config.mean), torch.tensor(file.about.config.std)
    pixels = image.permute(1, 2, 0) * std + mean
    assert given[0].dtype == np.uint8
    assert float((torch.from_numpy(given[0][0]) - pixels).abs().max()) <= 0.5001


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nms", "soft"), "--nms: not used by {file}, which suppresses itself; leave it out"),
        (("--model", "d0"), "--model: not used by --engine FILE; leave it out"),
        (("--weights", "raw"), "--weights: not used by --engine FILE without --ckpt; leave it out"),
    ],
)
def test_what_a_file_decides_is_refused(
    words: tuple[str, ...], message: str, program_file: Path, dataset: Path
) -> None:
    result = run("eval", "--coco", dataset, "--engine", program_file, *words)
    assert (result.exit_code, result.stderr) == (2, f"effconv: {message.format(file=program_file)}\n")


def test_files_that_are_none_of_ours_are_refused_in_a_line(dataset: Path, tmp_path: Path) -> None:
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 64, 64])] for name in ("images", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["same"])], "theirs", *ends)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "x.onnx")
    for name in ("x.pt2", "x.tflite", "broken.onnx", "x.h5", "notes/a.txt", "theirs/saved_model.pb", *DAMAGED):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"theirs")
    of_a_folder = "expected a SavedModel's folder that `effconv export savedmodel` wrote, found no saved_model.pb with"
    stranger = "expected a file that `effconv export` wrote"
    expected = {
        "x.onnx": stranger,
        "x.pt2": stranger,
        "x.tflite": stranger,
        "broken.onnx": "cannot be loaded (",
        "x.h5": "expected an exported detector, a file ending in .onnx, .pt2, .tflite or a folder",
        "notes": of_a_folder,
        "theirs": of_a_folder,
        "damaged": stranger,
        "none.pt2": "no such file",
    }
    for name, message in expected.items():
        result = run("eval", "--coco", dataset, "--engine", tmp_path / name)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith(f"effconv: {tmp_path / name}: {message}")
        assert len(result.stderr.splitlines()) == 1
        if name != "x.onnx" and name != "broken.onnx":  # graphs of anybody are compared by their layers
            assert run("parity", "--engine", tmp_path / name, "--ckpt", SWISH).stderr == result.stderr


def locked(archive: bytes) -> bytes:
    """An archive of one entry that says that it is encrypted."""
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = archive.index(mark) + place
        archive = archive[:start] + bytes([archive[start] | 1]) + archive[start + 1 :]
    return archive


def archived(description: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("effconv.json", description)
    return content.getvalue()


def test_a_description_that_is_damaged_is_refused_in_a_line(dataset: Path, tmp_path: Path) -> None:
    whole = archived("{}" + " " * 1000)
    start = whole.index(b"effconv.json") + len("effconv.json")
    damaged = {
        "flipped": whole[:start] + b"\xff\xff\xff" + whole[start + 3 :],
        "locked": locked(whole),
        "deep": archived("[" * 100_000),
    }
    for name, content in damaged.items():
        path = tmp_path / f"{name}.pt2"
        path.write_bytes(content)
        result = run("eval", "--coco", dataset, "--engine", path)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith(f"effconv: {path}: expected a file that `effconv export` wrote"), name
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.tf
def test_a_folder_that_cannot_be_loaded_is_refused_in_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "detector"
    assert run("export", "savedmodel", *MODEL, "--no-check", "-o", folder).exit_code == 0
    found = run("eval", "--engine", folder, "--nms", "soft")
    assert found.stderr == f"effconv: --nms: not used by {folder}, which suppresses itself; leave it out\n"
    before = exporting.open_exported(folder).sha256
    (folder / "variables" / "variables.index").write_bytes(b"theirs")
    assert exporting._sha256(folder) != before
    for command in (("eval", "--coco", tmp_path), ("parity", "--ckpt", SWISH)):
        result = run(*command, "--engine", folder)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith(f"effconv: {folder}: cannot be loaded (")
        assert len(result.stderr.splitlines()) == 1
