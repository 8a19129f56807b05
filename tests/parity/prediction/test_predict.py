"""Predicting: the same objects as an evaluation finds, as a method of the model and as a command."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from pycocotools.coco import COCO

from effconv.cli import main
from effconv.effdet_torch.model import EfficientDet
from effconv.effdet_torch.postprocessing.postprocess import per_class
from effconv.effdet_torch.preprocessing.decode import decode
from effconv.effdet_torch.preprocessing.preprocess import Preprocessor
from effconv.errors import ImageError
from small_images import write_pictures
from tiny_models import load_tiny

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
MODEL = ["--model", str(SWISH / "config.json"), "--ckpt", str(SWISH)]
COUNT = 6


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), COUNT)


@pytest.fixture(scope="module")
def folder(pictures: Path) -> Path:
    return pictures / "val2017"


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    return load_tiny(SWISH)


def run(output: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, arguments), "-o", str(output), *MODEL])


# --- the model's method ------------------------------------------------------------------------------------------


def test_a_prediction_is_xyxy_in_original_pixels(model: EfficientDet, folder: Path) -> None:
    path = folder / "002.jpg"  # 200 x 60 in an input of 160 x 128: original pixels are 1.25 times larger
    (prediction,) = model.predict([path])
    image, scale = Preprocessor(model.config)(path.read_bytes())
    with torch.no_grad():
        raw = per_class(model.config)(*model(torch.from_numpy(image)[None]))
    assert float(scale) == pytest.approx(1.25)
    count = int(raw.valid[0])
    ymin, xmin, ymax, xmax = (raw.boxes[0, :count] * float(scale)).unbind(-1)
    assert torch.equal(prediction.boxes, torch.stack([xmin, ymin, xmax, ymax], -1))
    assert torch.equal(prediction.scores, raw.scores[0, :count])
    assert torch.equal(prediction.categories, raw.classes[0, :count])
    assert count == 100
    assert not any(each.is_inference() for each in (prediction.boxes, prediction.scores, prediction.categories))
    assert len(prediction) == len(prediction.names) == count
    some = prediction.above(float(prediction.scores[10]))
    assert len(some.boxes) == len(some.scores) == len(some.categories) == len(some) == 11


def test_batches_and_encoded_images_give_the_same_objects(model: EfficientDet, folder: Path) -> None:
    paths = sorted(folder.iterdir())
    single = model.predict([str(path) for path in paths])
    batched = model.predict([path.read_bytes() for path in paths], batch=4)
    assert len(single) == len(batched) == COUNT
    for one, other in zip(single, batched, strict=True):
        assert torch.equal(one.categories, other.categories)
        torch.testing.assert_close(one.boxes, other.boxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-5)
    assert model.predict([]) == []


def test_an_image_may_come_in_any_form(model: EfficientDet, folder: Path) -> None:
    path = folder / "002.jpg"
    pixels = decode(path.read_bytes(), name="x")
    (expected,) = model.predict([path])
    with path.open("rb") as file:
        forms = (str(path), file, pixels, torch.from_numpy(pixels).permute(2, 0, 1), Image.fromarray(pixels))
        found = model.predict(form for form in forms)  # one after another, as they come
    assert len(found) == len(forms)
    for prediction in found:
        assert list(prediction) == list(expected)
    least = float(expected.scores[10])
    (some,) = model.predict([path], min_score=least)
    assert torch.equal(some.scores, expected.scores[expected.scores >= least])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "found ndarray of (4, 4, 3) float32"),
        (np.zeros((3, 40, 40), np.uint8), "found ndarray of (3, 40, 40) uint8"),
        (torch.zeros(40, 40, dtype=torch.uint8), "found ndarray of (40, 40) uint8"),
        (5, "found int"),
    ],
)
def test_an_image_of_another_form_is_refused(wrong: object, said: str, model: EfficientDet) -> None:
    with pytest.raises(ImageError, match=re.escape(said)) as refused:
        model.predict([wrong])  # type: ignore[list-item]
    assert "image 0: expected a path, encoded bytes, an open file" in str(refused.value)


def test_the_models_own_precision_is_used(folder: Path) -> None:
    double = load_tiny(SWISH).double()
    (prediction,) = double.predict([folder / "001.jpg"])
    assert prediction.boxes.dtype == prediction.scores.dtype == torch.float32
    assert len(prediction.scores) == 100


def test_what_cannot_be_predicted_is_said(model: EfficientDet, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes a list"):
        model.predict(str(folder / "001.jpg"))
    with pytest.raises(ValueError, match="batch must be at least 1"):
        model.predict([], batch=0)
    with pytest.raises(ImageError, match=r"absent\.jpg"):
        model.predict([tmp_path / "absent.jpg"])
    with pytest.raises(ImageError, match="image 1: "):
        model.predict([(folder / "001.jpg").read_bytes(), b"nothing"], batch=2)
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        load_tiny(SWISH).train().predict([folder / "001.jpg"])


# --- the command -------------------------------------------------------------------------------------------------


def test_detections_are_those_of_an_evaluation(pictures: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "out", pictures / "val2017", "--min-score", "0", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    arguments = ["eval", "--coco", str(pictures), *MODEL, "--workers", "0", "--detections", str(tmp_path / "d.json")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    expected = json.loads((tmp_path / "d.json").read_text())
    to_dataset = {image["id"]: 100 - int(Path(image["file_name"]).stem) for image in record["images"]}
    assert [{**row, "image_id": to_dataset[row["image_id"]]} for row in found] == expected
    assert sum(image["objects"] for image in record["images"]) == len(expected) > 100


def test_files_for_pycocotools_and_pictures_are_written(folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = run(tmp_path / "out", folder, "--min-score", "0.8")
    assert result.exit_code == 0, result.stderr
    truth = COCO(str(tmp_path / "out" / "images.json"))
    results = truth.loadRes(str(tmp_path / "out" / "detections.json"))
    assert len(results.anns) > 3
    assert all(each["score"] >= 0.8 for each in results.anns.values())
    assert truth.cats[3]["name"] == "category 3"  # the model's seven classes are not COCO's
    assert result.stdout.splitlines()[-1] == (
        f"-> {tmp_path / 'out'}: {COUNT} pictures, {len(results.anns)} objects in detections.json"
    )
    names = {"detections.json", "images.json"}
    changed = 0
    for entry in truth.imgs.values():
        drawn = tmp_path / "out" / entry["drawing"]
        names.add(drawn.name)
        with Image.open(drawn) as picture, Image.open(entry["file_name"]) as original:
            assert picture.size == original.size == (entry["width"], entry["height"])
            assert picture.format == original.format
            if picture.format == "PNG":
                changed += not np.array_equal(np.asarray(picture), np.asarray(original.convert("RGB")))
    assert changed
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_settings_change_what_is_found(folder: Path, tmp_path: Path) -> None:
    def detections(name: str, *options: str) -> tuple[str, str]:
        result = run(tmp_path / name, folder / "001.jpg", "--min-score", "0.1", "--json", *options)
        return (tmp_path / name / "detections.json").read_text(), json.loads(result.stdout)["conditions"]

    found = {name: detections(name, *name.split()) for name in ("", "--nms hard", "--size 256x128", "--weights raw")}
    assert len({text for text, _ in found.values()}) == 4
    assert found["--size 256x128"][1] == {**found[""][1], "image_size": "256x128"}


def test_unreadable_images_are_named_and_counted(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "pictures"
    damaged.mkdir()
    good = folder / "001.jpg"
    (damaged / "cut.jpg").write_bytes(good.read_bytes()[:200])
    (damaged / "text.png").write_text("no picture")
    # So narrow that the network's input would have no column left of it.
    Image.new("RGB", (10000, 40)).save(damaged / "wide.png")
    result = run(tmp_path / "out", good, damaged, tmp_path / "absent.jpg")
    assert result.exit_code == 2, result.stderr  # one was asked for by name
    lines = result.stdout.splitlines()
    assert lines[-1] == "4 of 5 images skipped"
    skipped = [line for line in lines if line.startswith("skipped: ")]
    paths = [damaged / "cut.jpg", damaged / "text.png", damaged / "wide.png", tmp_path / "absent.jpg"]
    for line, path in zip(skipped, paths, strict=True):
        assert line.startswith(f"skipped: {path}: ")
    assert "would be resized to 160 x 0" in skipped[2]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["001.jpg", "detections.json", "images.json"]
    strict = run(tmp_path / "strict", good, damaged, "--strict")
    assert (strict.exit_code, str(damaged / "cut.jpg") in strict.stderr) == (2, True)
    none = run(tmp_path / "none", damaged)
    assert none.exit_code == 2
    assert f"none of 3 images could be read; the first: {damaged / 'cut.jpg'}" in none.stderr


def test_the_exit_status_tells_of_images_that_were_left_out(folder: Path, tmp_path: Path) -> None:
    good, damaged = folder / "001.jpg", tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "cut.jpg").write_bytes(good.read_bytes()[:200])
    absent = tmp_path / "absent.jpg"
    for given, status, skipping in (
        ((good,), 0, 0),
        ((good, damaged), 1, 0),
        ((good, damaged / "*.jpg"), 1, 0),
        ((good, damaged / "cut.jpg"), 2, 2),  # a file that was asked for is not to be skipped
        ((absent, good), 2, 2),
        ((good, damaged, absent), 2, 2),
    ):
        assert run(tmp_path / "out", *given).exit_code == status, given
        assert run(tmp_path / "out", *given, "--skip-unreadable", "--json").exit_code == skipping, given


def test_pictures_of_one_name_do_not_overwrite_each_other(folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / name / "holiday").mkdir(parents=True)
        Image.new("RGB", (20 + number, 20)).save(tmp_path / name / "holiday" / "x.png")
    result = run(tmp_path / "out", tmp_path / "a" / "holiday", str(tmp_path / "b" / "**" / "*.png"), "--json")
    assert result.exit_code == 0, result.stderr
    assert [image["drawing"] for image in json.loads(result.stdout)["images"]] == ["x.png", "x-2.png"]
    sizes = [Image.open(tmp_path / "out" / name).size for name in ("x.png", "x-2.png")]
    assert sizes == [(20, 20), (21, 20)]


def test_inputs_are_never_overwritten(folder: Path, tmp_path: Path) -> None:
    original = (folder / "001.jpg").read_bytes()
    (tmp_path / "001.jpg").write_bytes(original)
    (tmp_path / "link").symlink_to(tmp_path)
    for output in (tmp_path, tmp_path / "link"):
        result = run(output, tmp_path / "001.jpg")
        assert result.exit_code == 2
        assert "would overwrite the input" in result.stderr
    assert (tmp_path / "001.jpg").read_bytes() == original
    assert sorted(path.name for path in tmp_path.iterdir()) == ["001.jpg", "link"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/*.jpg"], "no file matches"),
        (["{tmp}"], "expected images in this folder"),
        (["{image}", "--device", "nowhere"], "device nowhere: cannot be used"),
        (["{image}", "--device", "meta"], "device meta: cannot be used"),
        (["{image}", "--size", "12"], "expected HEIGHTxWIDTH"),
        (["{image}", "-o", "{image}"], "is a file"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str, folder: Path, tmp_path: Path) -> None:
    given = [each.format(tmp=tmp_path, image=folder / "001.jpg") for each in arguments]
    if "-o" in given:
        given[-1] = str(tmp_path / "file")
        (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["predict", "-o", str(tmp_path / "out"), *MODEL, *given])
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_model_must_be_named(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["predict", str(folder), "-o", str(tmp_path / "out")])
    assert (result.exit_code, "name the model to predict with" in result.stderr) == (2, True)


def test_drawings_as_jpeg_are_of_quality_92_with_every_pixels_colour(folder: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "drawn", folder / "001.jpg").exit_code == 0
    with Image.open(tmp_path / "drawn" / "001.jpg") as drawing:
        drawing.convert("RGB").save(tmp_path / "as-it-should-be.jpg", quality=92, subsampling=0)
        with Image.open(tmp_path / "as-it-should-be.jpg") as expected:
            assert drawing.quantization == expected.quantization
            assert [each[1:3] for each in drawing.layer] == [(1, 1)] * 3


def test_hidden_objects_are_written_and_not_drawn(folder: Path, tmp_path: Path) -> None:
    all_drawn, hidden, high = tmp_path / "all", tmp_path / "hidden", tmp_path / "high"
    for output, options in (
        (all_drawn, ("--min-score", "0.3")),
        (hidden, ("--min-score", "0.3", "--hide-below", "0.8")),
        (high, ("--min-score", "0.8")),
    ):
        result = run(output, folder, *options)
        assert result.exit_code == 0, result.stderr
    detections = [(each / "detections.json").read_bytes() for each in (all_drawn, hidden, high)]
    assert detections[0] == detections[1] != detections[2]
    drawings = [
        {path.name: path.read_bytes() for path in each.iterdir() if path.suffix != ".json"}
        for each in (all_drawn, hidden, high)
    ]
    assert drawings[0] != drawings[1] == drawings[2]


def test_nothing_to_hide_is_refused(folder: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "out", folder / "002.jpg", "--min-score", "0.5", "--hide-below", "0.5")
    assert result.exit_code == 2
    assert "objects below 0.5 are left out already" in result.stderr
    assert "--hide-below" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_turned_photograph_is_drawn_upright(folder: Path, tmp_path: Path) -> None:
    """The network sees it as stored: its detections are those of the same file without the tag."""
    stored = tmp_path / "stored.jpg"
    stored.write_bytes((folder / "002.jpg").read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = b"\xff\xe1" + (2 + len(exif.tobytes())).to_bytes(2, "big") + exif.tobytes()
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(stored.read_bytes()[:2] + payload + stored.read_bytes()[2:])
    found = {}
    for path in (stored, turned):
        result = run(tmp_path / path.stem, path, "--min-score", "0.3")
        assert result.exit_code == 0, result.stderr
        found[path] = (tmp_path / path.stem / "detections.json").read_bytes()
    assert found[stored] == found[turned]
    assert "its EXIF orientation is ignored" in result.stderr
    assert "drawings of them are upright" in result.stderr
    with Image.open(tmp_path / "turned" / "turned.jpg") as drawn, Image.open(turned) as original:
        assert drawn.size == original.size[::-1]
        assert drawn.getexif().get(0x0112, 1) == 1
