"""`effconv bench ablation`: what it times is the row of the ablation, over so many images."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.parity.benchmarks import ablation as ablation_benchmark
from effconv.parity.benchmarks.network_records import AblationCostRecord
from small_images import write_pictures

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"


def test_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    detections = ablation_benchmark.Ablator.detections

    def counting(self: ablation_benchmark.Ablator, setup: object, cached: ablation_benchmark.Cached) -> object:
        found = detections(self, setup, cached)  # type: ignore[arg-type]
        assert cached.selected is not None
        counts.append((len(cached.selected.logits), len(cached.scales), len(set(found[:, 0]))))
        return found

    monkeypatch.setattr(ablation_benchmark.Ablator, "detections", counting)
    pictures = write_pictures(tmp_path / "pictures")
    options = ["--coco", pictures, "--model", SWISH / "config.json", "--ckpt", SWISH, "--images", 7, "--limit", 3]
    arguments = ["bench", "ablation", *options, "--rounds", 2, "--record", tmp_path / "record.json"]
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    assert counts == [(7, 7, 3)] * 4  # two turns of two runs
    record = json.loads((tmp_path / "record.json").read_text())
    assert AblationCostRecord.read(record).plain() == record
    seconds = record["seconds_per_image"]
    assert record["share"] == seconds["decoding"] / seconds["network"]
    assert {name: len(each) for name, each in record["turns"].items()} == {"network": 2, "decoding": 2}
    assert result.stdout.strip().endswith(f"{100 * record['share']:.2f} % (promised: below 2 %)")
