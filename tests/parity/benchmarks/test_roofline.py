"""The work of a network, counted; and the benchmarks of the whole way and of the ceilings, small."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.effdet_torch.model import EfficientDet
from effconv.parity.benchmarks import predict as predict_benchmark
from effconv.parity.benchmarks import roofline
from effconv.parity.benchmarks.contest_records import PredictRecord
from effconv.parity.benchmarks.network_records import RooflineRecord
from effconv.parity.benchmarks.roofline import count_work
from small_images import write_pictures

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize(("name", "published"), [("d0", 2.5e9), ("d1", 6.1e9), ("d3", 25e9)])
def test_multiply_adds_are_those_of_the_paper(name: str, published: float) -> None:
    """EfficientDet, table 2; the paper rounds, and counts fusion and resizing too, which are a percent."""
    with torch.device("meta"):
        model = EfficientDet(name)
    assert count_work(model, model.config.image_size).multiply_adds == pytest.approx(published, rel=0.03)


def test_work_grows_with_the_image() -> None:
    with torch.device("meta"):
        model = EfficientDet("d0")
    small, large = (count_work(model, (side, side)) for side in (128, 256))
    assert large.multiply_adds == pytest.approx(4 * small.multiply_adds, rel=0.01)
    assert 2.5 < large.bytes_moved / small.bytes_moved < 4  # weights are read once


def test_bench_roofline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "use_threads", lambda threads: None)
    monkeypatch.setattr(roofline, "COPIED", 1 << 20)
    path = tmp_path / "record.json"
    words = ("--model", SWISH / "config.json", "--size", "64x64", "--engine", "fast", "--rounds", 2, "--record", path)
    result = run("bench", "roofline", *words)
    assert result.exit_code == 0, result.output
    record = json.loads(path.read_text())
    assert RooflineRecord.read(record).plain() == record
    seconds = record["seconds"]
    assert record["fraction"] == max(seconds["arithmetic"], seconds["memory"]) / seconds["taken"]
    assert 0 < sum(record["operators"].values()) <= 1
    assert "% of what is possible" in result.stdout


def test_bench_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_benchmark, "use_threads", lambda threads: None)
    monkeypatch.setitem(__import__("sys").modules, "effdet", None)
    pictures, path = write_pictures(tmp_path / "pictures") / "val2017", tmp_path / "record.json"
    words = ("--images", pictures, "--model", SWISH / "config.json", "--ckpt", SWISH, "--limit", 2, "--rounds", 2)
    result = run("bench", "predict", *words, "--batch", 1, "--batch", 2, "--peers", "effdet", "--record", path)
    assert result.exit_code == 0, result.output
    record = json.loads(path.read_text())
    assert [row["contestant"] for row in record["rows"]] == ["effconv, eager", "effconv, fast"]
    assert PredictRecord.read(record).plain() == record
    assert record["images"] == record["items"] == 2
    assert list(record["other_batches"]) == ["2"]
    assert {len(turns) for turns in record["other_batches"]["2"]["turns"].values()} == {2}
    assert record["seconds_to_begin"].keys() == record["turns"].keys()
    assert [line.split()[0] for line in result.stdout.splitlines()[2:6]] == ["1", "1", "2", "2"]
    assert "left out: effdet: cannot be imported" in result.stdout


def test_bench_predict_takes_whole_batches_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_benchmark, "use_threads", lambda threads: None)
    pictures = write_pictures(tmp_path / "pictures", 3) / "val2017"
    result = run("bench", "predict", "--images", pictures, "--model", SWISH / "config.json", "--batch", 2)
    assert result.exit_code == 2
    assert result.stderr.startswith("effconv: 3 images make no whole batches of 2: take a multiple of 2 images")
    assert result.stderr.count("\n") == 1
