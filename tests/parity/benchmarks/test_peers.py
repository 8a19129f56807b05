"""Benchmarks beside peers: their weights are ours, what is missing is said, and ratios are of medians."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.engines.fast import fast
from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.parity.benchmarks import inference as inference_benchmark
from effconv.parity.benchmarks import training as training_benchmark
from effconv.parity.benchmarks.contestants import symmetric
from effconv.parity.benchmarks.inference import parameters, times_faster
from effconv.parity.benchmarks.network_records import InferenceRecord, TrainingRecord
from effconv.parity.benchmarks.peers import PEERS, ByLevel, peer
from effconv.parity.comparison.engine import output_error
from effconv.parity.referee.ports import PORTS, flat
from tiny_models import load_tiny

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_computes_the_same_with_our_weights(name: str) -> None:
    torch.manual_seed(0)
    model = EfficientDet("d0").eval()
    try:
        theirs = peer(name, model, (128, 128))
    except EffconvError as error:
        pytest.skip(str(error))
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, found = model(images), theirs.network(images)
    assert [each.shape for kind in found for each in kind] == [each.shape for kind in ours for each in kind]
    if theirs.same_function:
        for one, other in zip([*ours[0], *ours[1]], [*found[0], *found[1]], strict=True):
            assert output_error(other, one) < 1e-4  # float32 noise of d0, which is 5e-5 (docs/precision.md)


def test_outputs_of_all_anchors_are_cut_into_levels() -> None:
    """A stand-in for a port: our own outputs, put into one row as ports do."""
    model = load_tiny(SWISH)
    config = model.config

    def outputs(network: torch.nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        classes, boxes = network(images)
        return flat(classes, config.num_classes), flat(boxes, 4)

    port = PORTS["zylo117"]._replace(outputs=outputs)
    images = torch.randn(2, 3, 128, 256)
    with torch.inference_mode():
        found, ours = ByLevel(model, port, config, (128, 256))(images), model(images)
    for kind, own in zip(found, ours, strict=True):
        for one, other in zip(kind, own, strict=True):
            assert torch.equal(one, other)


def test_parameters_are_split() -> None:
    with torch.device("meta"):
        counts = parameters(EfficientDet("d0"))
    assert counts.encoder + counts.decoder == 3_880_067  # as the official code counts them
    assert counts.encoder > 3_500_000


def test_ratios_are_beside_effdet_or_our_eager_model_or_the_first() -> None:
    assert times_faster({"fast": 50.0, "eager": 75.0, "effdet": 150.0}) == (
        "effdet",
        {"fast": 3.0, "eager": 2.0, "effdet": 1.0},
    )
    assert times_faster({"fast": 40.0, "eager": 80.0}) == ("eager", {"fast": 2.0, "eager": 1.0})
    assert times_faster({"onnxruntime": 40.0, "fast": 80.0}) == ("onnxruntime", {"onnxruntime": 1.0, "fast": 0.5})


def test_symmetric_padding_has_the_same_shapes_and_other_values() -> None:
    model, images = load_tiny(SWISH), torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        right, wrong = fast(model)(images), symmetric(model)(images)
    assert [each.shape for each in right[0]] == [each.shape for each in wrong[0]]
    assert output_error(wrong[0][0], right[0][0]) > 0.01


def test_bench_inference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_benchmark, "use_threads", lambda threads: None)  # of the other tests
    monkeypatch.setitem(__import__("sys").modules, "effdet", None)
    record, config = tmp_path / "record.json", SWISH / "config.json"
    words = ("bench", "inference", "--model", config, "--ckpt", SWISH, "--size", "64x64", "--threads", 1)
    result = run(*words, "--rounds", 2, "--batch", 2, "--peers", "effdet", "--record", record)
    assert result.exit_code == 0, result.output
    found = json.loads(record.read_text())
    assert InferenceRecord.read(found).plain() == found
    assert [row["contestant"] for row in found["rows"]] == ["eager", "fast", "fast, symmetric padding"]
    assert found["rows"][0]["error_beside_the_model"] == 0
    assert found["rows"][1]["error_beside_the_model"] < 1e-4
    assert found["rows"][2]["error_beside_the_model"] is None
    assert all(row["peak_megabytes"] > 100 for row in found["rows"])
    assert "left out: effdet: cannot be imported" in result.stdout
    assert found["checkpoint"] == SWISH.name


def test_bench_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_benchmark, "use_threads", lambda threads: None)
    monkeypatch.setitem(__import__("sys").modules, "effdet", None)
    record = tmp_path / "record.json"
    words = ("bench", "training", "--model", SWISH / "config.json", "--size", "64x64", "--batch", 2, "--threads", 1)
    result = run(*words, "--rounds", 2, "--peers", "effdet", "--record", record)
    assert result.exit_code == 0, result.output
    found = json.loads(record.read_text())
    assert TrainingRecord.read(found).plain() == found
    (row,) = found["rows"]
    assert (row["contestant"], row["times_faster"]) == ("effconv", 1.0)
    assert row["loss"] > 0
    assert "effdet: cannot be imported" in result.stdout
    assert get_config(str(SWISH / "config.json")).name == found["model"]


def test_unknown_contestants() -> None:
    words = ("--model", SWISH / "config.json", "--ckpt", SWISH, "--size", "64x64", "--rounds", 1, "--threads", 1)
    result = run("bench", "inference", *words, "--engines", "turbo")
    assert (result.exit_code, "no contestant is called 'turbo'" in result.stderr) == (2, True)
