"""Kernels wrong in float32 alone, planted under the commands that people type: each refuses, naming the layer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from single_precision import PRECISIONS
from torch import Tensor

from effconv.cli import main
from effconv.effdet_torch.ops import SameConv2d
from effconv.parity import embedded
from effconv.parity.datasets.dataset import Image
from effconv.parity.traces.images import drawn
from effconv.parity.verification import demo
from effconv.parity.verification import verify as verification

pytestmark = pytest.mark.tf
GOLDEN = Path(__file__).parents[2] / "golden" / "tiny-swish"
MODEL = ("--model", str(GOLDEN / "config.json"), "--ckpt", str(GOLDEN))
FIRST_LARGE = "backbone.blocks.3.depthwise"  # the first depthwise kernel of 5x5, as in D0

# What is done to the output of all depthwise convolutions of 5x5 in float32; they "held" with each of the first three.
WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "1.5 times": lambda y: y * 1.5,
    "zero": torch.zeros_like,
    "bfloat16": PRECISIONS["bfloat16"],
    "TF32": PRECISIONS["TF32"],
    "float16": PRECISIONS["float16"],
}


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    right = SameConv2d.forward

    def plant_it(fault: str) -> None:
        def forward(self: SameConv2d, x: Tensor) -> Tensor:
            found = right(self, x)
            large = self.kernel_size == (5, 5) and x.dtype == torch.float32
            return WRONG[fault](found) if large else found

        monkeypatch.setattr(SameConv2d, "forward", forward)

    return plant_it


def run(*words: str) -> Result:
    result = CliRunner().invoke(main, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("fault", WRONG)
def test_parity(fault: str, plant: Callable[[str], None]) -> None:
    plant(fault)
    result = run("parity", *MODEL, "--size", "64x64")
    assert result.exit_code == 1
    assert f"layers differ, first {FIRST_LARGE} (" in result.stdout
    assert "the candidate's float32 differs from its own float64" in result.stdout


@pytest.mark.parametrize("fault", ["zero", "TF32"])
def test_parity_end_to_end(fault: str, plant: Callable[[str], None]) -> None:
    plant(fault)
    result = run("parity", "--end-to-end", *MODEL)
    assert result.exit_code == 1
    assert f"first layers of drawn 0: {FIRST_LARGE}: its float32 differs" in result.stdout


@pytest.mark.parametrize("fault", ["zero", "TF32"])
def test_parity_of_an_engine(fault: str, plant: Callable[[str], None]) -> None:
    plant(fault)
    result = run("parity", *MODEL, "--engine", "fast", "--size", "64x64")
    assert result.exit_code == 1
    assert f"tiny-swish by fast: not sound, first {FIRST_LARGE}, on 1 x 64x64: its float32 differs" in result.stdout


def test_demo(plant: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "HELD_OUT_IMAGES", 2)
    monkeypatch.setattr(demo, "LIVE", 1)
    plant("float16")
    result = run("demo", "-o", str(tmp_path), "--json")
    assert result.exit_code == 1
    steps = {step["name"]: step for step in json.loads(result.stdout)["steps"]}
    assert not steps["layers"]["holds"]
    assert "the candidate's float32 differs from its own float64" in steps["layers"]["verdict"]
    assert "depthwise" in steps["layers"]["verdict"]
    assert not steps["from bytes to detections"]["holds"]


def test_verify(plant: Callable[[str], None], tmp_path: Path) -> None:
    """Its step that compares layers; only a released model goes the whole way."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(drawn(0, (64, 64)))
    plant("zero")
    asked = verification.Verification(model=MODEL[1], output=tmp_path)
    record = verification._compare_layers(asked, GOLDEN, Image(1, picture, 64, 64), "a test")
    assert not record.ok
    assert record.first_failure == FIRST_LARGE
