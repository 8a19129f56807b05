"""`--engine auto`: onnxruntime where it is installed and its graph is kept or its export pays, and else the default."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from effconv.effdet_torch.engines import choice, graphs
from effconv.effdet_torch.engines.choice import BREAK_EVEN_IMAGES, EXPORT_SECONDS, choose_engine
from effconv.effdet_torch.model import EfficientDet
from kept_runs import SWISH
from tiny_models import load_tiny

SIZE = (64, 64)
ON_CPU: dict[str, Any] = {"device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    return load_tiny(SWISH)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of packages that are found; a test takes some away."""
    packages = {"onnxruntime", "onnx", "onnxscript"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in packages else None)
    return packages


def keep(model: EfficientDet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "export_onnx", lambda model, path, size: path.write_bytes(b"a graph"))
    graphs.exported_graph(model, SIZE, folder)


def test_so_many_images_pay_for_an_export(model: EfficientDet, installed: set[str], tmp_path: Path) -> None:
    few = choose_engine(model, SIZE, BREAK_EVEN_IMAGES - 1, tmp_path, **ON_CPU)
    many = choose_engine(model, SIZE, BREAK_EVEN_IMAGES, tmp_path, **ON_CPU)
    assert few == ("fast", "as exporting for onnxruntime pays from 1200 images on, not 1199")
    assert many == ("onnxruntime", "as exporting for it pays from 1200 images on, and there are 1200")


def test_break_even_is_what_the_records_say(repository: Path) -> None:
    """On the whole way of an image, and so for the network alone, of which more is saved."""
    measured = repository / "results" / "measured"
    rows = json.loads((measured / "bench-predict-d0.json").read_text())["rows"]
    whole = {row["contestant"]: row["seconds_per_item"] for row in rows}
    network = {
        row["contestant"]: row["milliseconds_per_image"] / 1e3
        for row in json.loads((measured / "bench-inference-d0.json").read_text())["rows"]
        if row["batch"] == 1
    }
    least = EXPORT_SECONDS / (whole["effconv, fast"] - whole["effconv, onnxruntime"])
    assert EXPORT_SECONDS / (network["fast"] - network["onnxruntime"]) < least < BREAK_EVEN_IMAGES < 1.1 * least


def test_an_export_takes_what_the_record_says(repository: Path) -> None:
    """No less, or a run would wait for more than it is told to; and no more than twice that: the machine is shared."""
    record = json.loads((repository / "results" / "measured" / "bench-predict-d0.json").read_text())
    if begun := record.get("seconds_to_begin"):  # of which older records have nothing
        assert export_is_within(begun)
    assert export_is_within({"effconv, fast": 1.0, "effconv, onnxruntime": EXPORT_SECONDS})
    for seconds in (EXPORT_SECONDS + 2, EXPORT_SECONDS / 2):
        assert not export_is_within({"effconv, fast": 1.0, "effconv, onnxruntime": seconds})


def export_is_within(begun: dict[str, float]) -> bool:
    exported = begun["effconv, onnxruntime"] - begun["effconv, fast"]
    return exported <= EXPORT_SECONDS <= 2 * exported


def test_a_kept_graph_is_taken_for_any_number(
    model: EfficientDet, installed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(model, tmp_path, monkeypatch)
    installed -= {"onnx", "onnxscript"}  # nothing has to be exported
    assert choose_engine(model, SIZE, 1, tmp_path, **ON_CPU) == ("onnxruntime", "whose graph is kept")
    assert choose_engine(model, (64, 96), 1, tmp_path, **ON_CPU).engine == "fast"
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"another")
    assert choose_engine(model, SIZE, 1, tmp_path, **ON_CPU).engine == "fast"


@pytest.mark.parametrize("absent", ["onnxruntime", "onnx", "onnxscript"])
def test_what_is_not_installed_is_not_chosen(
    absent: str, model: EfficientDet, installed: set[str], tmp_path: Path
) -> None:
    installed.remove(absent)
    found = choose_engine(model, SIZE, 5000, tmp_path, **ON_CPU)
    assert found.engine == "fast"
    assert absent in found.reason


@pytest.mark.parametrize("other", [{"device": "cuda:0"}, {"precision": "bfloat16"}])
def test_other_devices_and_precisions_are_not_the_runtimes(
    other: dict[str, str], model: EfficientDet, installed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(model, tmp_path, monkeypatch)
    assert choose_engine(model, SIZE, 5000, tmp_path, **ON_CPU | other).engine == choice.DEFAULT_NETWORK_ENGINE
