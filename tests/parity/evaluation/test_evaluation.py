"""Evaluating a model: the same detections however it is run, resumed or shared out; images that cannot be read."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.effdet_torch.preprocessing.preprocess import Preprocessor
from effconv.parity.datasets.dataset import Image
from effconv.parity.evaluation import detect
from effconv.parity.evaluation.image_stream import Batch, stream
from effconv.parity.evaluation.published_rows import CONDITIONS
from evaluation_runs import run
from small_images import SIZES, write_pictures


def test_an_evaluation_says_what_it_was_made_with(whole: tuple[dict[str, Any], bytes], pictures: Path) -> None:
    record, detections = whole
    assert set(record["conditions"]) == set(CONDITIONS)
    assert record["conditions"]["image_size"] == "128x160"
    assert record["images"] == len(SIZES)
    assert record["detections"] == len(json.loads(detections)) > 100 * (len(SIZES) - 1)
    assert record["fingerprint"] is None
    assert 0 < record["seconds"] < 3600  # measured, not summed
    assert record["images_per_second"] == record["images"] / record["seconds"]
    assert record["skipped"] == {}
    text = run(pictures).stdout
    assert text.startswith(f"tiny-swish: AP {record['metrics']['AP']:.4f} on {len(SIZES)} images")
    assert "nms soft" in text
    assert "AR, 100 detections per image" in text


def test_detections_are_written_as_the_official_code_writes_them(whole: tuple[dict[str, Any], bytes]) -> None:
    rows = json.loads(whole[1])
    assert [row["image_id"] for row in rows] == sorted((row["image_id"] for row in rows), reverse=True)
    for row in rows:
        assert list(row) == ["image_id", "category_id", "bbox", "score"]
        assert all(value == round(value, 2) for value in row["bbox"])
        assert row["score"] == round(row["score"], 3)
        assert 1 <= row["category_id"] <= 7


def test_workers_change_nothing(pictures: Path, whole: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    assert run(pictures, "--workers", 2, "--detections", tmp_path / "d.json").exit_code == 0
    assert (tmp_path / "d.json").read_bytes() == whole[1]


def test_a_batch_is_no_larger_than_the_number_of_images(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its rows whether there are images for them or not: 100000 would ask for gigabytes."""
    sizes: list[int] = []

    def observed(images: Sequence[Image], preprocess: Preprocessor, batch: int, workers: int) -> Iterator[Batch]:
        sizes.append(batch)
        return stream(images, preprocess, batch, workers)

    monkeypatch.setattr(detect, "stream", observed)
    for size in (3, 300):
        assert run(pictures, "--limit", 3, "--batch", size, "--detections", tmp_path / f"{size}.json").exit_code == 0
    assert sizes == [3, 3]
    assert (tmp_path / "3.json").read_bytes() == (tmp_path / "300.json").read_bytes()


def test_a_batch_is_rounded_otherwise_and_finds_the_same_objects(
    pictures: Path, whole: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    """PyTorch's kernels add in another order for another batch size; the size is therefore part of what a run is."""
    assert run(pictures, "--batch", 4, "--detections", tmp_path / "d.json").exit_code == 0
    found, expected = json.loads((tmp_path / "d.json").read_bytes()), json.loads(whole[1])
    assert len(found) == len(expected)
    assert max(abs(a["score"] - b["score"]) for a, b in zip(found, expected, strict=True)) < 0.0011


def test_detections_of_a_file_are_evaluated(
    pictures: Path, whole: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    (tmp_path / "d.json").write_bytes(whole[1])
    words = ["eval", "--coco", str(pictures), "--results", str(tmp_path / "d.json"), "--json"]
    result = CliRunner().invoke(main, [*words, "--metrics-engine", "pycocotools"])
    record = json.loads(result.stdout)
    assert record["engine"] == "pycocotools"
    assert record["metrics"] == pytest.approx(whole[0]["metrics"], abs=0.02)  # its boxes and scores are rounded
    (tmp_path / "d.json").write_text('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]')
    assert "detections of another dataset?" in CliRunner().invoke(main, words).stderr


SETTINGS = {
    "--nms hard": {"nms": "hard"},
    "--candidates argmax": {"candidates": "argmax"},
    "--anchors legacy": {"anchors": "legacy"},
    "--min-score 0.6": {"score_threshold": 0.6},
    "--max-detections 10": {"max_detections": 10},
    "--image-decoder pillow": {"image_decoder": "pillow"},
    "--resize antialiased": {"resize": "antialiased"},
    "--size 256x128": {"image_size": "256x128"},
    "--weights raw": {"weights": "raw"},
}


@pytest.mark.parametrize("option", SETTINGS)
def test_every_setting_changes_the_detections_and_is_recorded(
    option: str, pictures: Path, whole: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    result = run(pictures, "--json", "--detections", tmp_path / "d.json", *option.split())
    record = json.loads(result.stdout)
    assert record["conditions"] == {**whole[0]["conditions"], **SETTINGS[option]}
    found = json.loads((tmp_path / "d.json").read_bytes())
    assert found != json.loads(whole[1])
    if option == "--min-score 0.6":
        assert all(row["score"] >= 0.6 for row in found)
    if option == "--max-detections 10":
        assert len(found) <= 10 * len(SIZES)


# --- images that cannot be read --------------------------------------------------------------------------------------


def test_unreadable_images_are_named_and_counted(pictures: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "damaged")
    files = sorted((folder / "val2017").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:200])
    files[2].write_text("no picture")
    result = run(folder)
    assert result.exit_code == 1
    assert run(folder, "--skip-unreadable").exit_code == 0
    last = result.stdout.splitlines()[-4:]
    assert last[-1] == f"3 of {len(SIZES)} images skipped; they count as images without detections"
    for line, file in zip(last[:3], files[:3], strict=True):
        assert line.startswith(f"skipped: {file}")
    record = json.loads(run(folder, "--json").stdout)
    assert sorted(record["skipped"]) == ["100", "98", "99"]
    assert record["images"] == len(SIZES)
    strict = run(folder, "--strict")
    assert strict.exit_code == 2
    assert str(files[0]) in strict.stderr


def test_an_evaluation_of_no_image_is_refused(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "damaged", 2)
    files = sorted((folder / "val2017").iterdir())
    for file in files:
        file.unlink()
    for options in ((), ("--skip-unreadable",)):
        result = run(folder, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"none of 2 images could be read, so nothing is scored; the first: {files[0]}" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--category-map", "absent.json"], 'expected {"model category id": dataset category id}'),
        (["--resume"], "to go on with (--resume, --detections)"),
        (["--split", "train"], "expected annotations/instances_train.json (COCO 2017), found val2017"),
        (["--size", "12"], "expected HEIGHTxWIDTH"),
    ],
)
def test_bad_input_is_named(options: list[str], message: str, pictures: Path) -> None:
    result = run(pictures, *options)
    assert result.exit_code == 2
    assert message in result.stderr
