"""A record names the file whose weights were proven, in every comparison and on every page."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from effconv.convert.conversion import convert, write_checkpoint, write_weights
from effconv.convert.sources import open_checkpoint
from effconv.parity.comparison import end_to_end_job, engine, layerwise
from effconv.parity.comparison.page import render_page
from effconv.parity.comparison.records import ComparisonRecord
from effconv.parity.comparison.report import comparison_markdown
from effconv.parity.comparison.subject import Choice
from effconv.parity.evaluation.evaluate import fingerprint_of
from effconv.parity.traces.candidate_trace import CandidateTrace
from effconv.parity.traces.images import noise
from effconv.parity.traces.official import official_variables
from effconv.parity.traces.recording import record as record_trace
from page_record import make_record
from tensors import config_of
from tiny_models import load_tiny

TINY = Path(__file__).parents[2] / "golden" / "tiny-swish"
Written = Callable[[Path], Path | None]


def nothing(folder: Path) -> None:
    """No candidate is given: it is the checkpoint, converted."""


def safetensors(folder: Path) -> Path:
    write_weights(convert(open_checkpoint(TINY), config_of(TINY)), folder / "other.safetensors")
    return folder / "other.safetensors"


def pickle(folder: Path) -> Path:
    torch.save(load_tiny(TINY).state_dict(), folder / "other.pth")
    return folder / "other.pth"


def checkpoint(folder: Path) -> Path:
    """Of the same model, with one value changed."""
    state = convert(open_checkpoint(TINY), config_of(TINY)).state
    state["backbone.stem.conv.weight"] = state["backbone.stem.conv.weight"] + 1
    write_checkpoint(state, state, config_of(TINY), folder / "model", "a test")
    return folder / "model"


def layers(choice: Choice, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    monkeypatch.setattr(layerwise, "compare", lambda *_: [])
    monkeypatch.setattr(layerwise, "first_failure", lambda rows: None)
    monkeypatch.setattr(layerwise, "compare_gradients", lambda *_: [])
    monkeypatch.setattr(layerwise, "comparison_record", lambda *given: given[4])
    return layerwise.compare_layerwise(choice, Path, "", explaining=False, **{"backward": False, **more})


def torchs_layers(choice: Choice, monkeypatch: pytest.MonkeyPatch) -> Any:
    return layers(choice._replace(reference="torch"), monkeypatch)


def gradients(choice: Choice, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(layerwise, "official_variables", partial(official_variables, by_tensorflow=False))
    return layers(choice._replace(reference="torch"), monkeypatch, backward=True)


def recorded_layers(choice: Choice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    trace = CandidateTrace(load_tiny(TINY), noise(0, (64, 64)), {"checkpoint_fingerprint": "of another"})
    record_trace(trace, tmp_path / "trace.npz", with_float64=False)
    found = layers(choice._replace(reference=str(tmp_path / "trace.npz"), size=None), monkeypatch)
    assert found.reference.more["checkpoint_fingerprint"] == "of another"
    return found


def end_to_end(choice: Choice, monkeypatch: pytest.MonkeyPatch) -> Any:
    source = {"checkpoint_fingerprint": open_checkpoint(TINY).fingerprint()}
    monkeypatch.setattr(end_to_end_job, "official_variables", lambda *_, **__: ({}, source))
    monkeypatch.setattr(end_to_end_job, "import_tensorflow", lambda: torch)
    monkeypatch.setattr(end_to_end_job, "compare_images", lambda *_: [])
    found = end_to_end_job.compare_end_to_end(choice, Path, "").record.row
    assert found.reference.more["checkpoint_fingerprint"] == source["checkpoint_fingerprint"]
    return found


def an_engine(choice: Choice, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(engine, "unsound_layer", lambda *_: None)
    monkeypatch.setattr(engine, "engine_rows", lambda *_: [])
    return engine.compare_engine(choice, Path, engine.Runner("onnxruntime"), "")


@pytest.mark.parametrize("mode", [torchs_layers, gradients, recorded_layers, end_to_end, an_engine])
@pytest.mark.parametrize("written", [nothing, safetensors, pickle, checkpoint])
@pytest.mark.filterwarnings("ignore:.*has no checksums")
def test_the_candidate_is_the_file_given(
    written: Written, mode: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = written(tmp_path)
    choice = Choice(model=str(TINY / "config.json"), checkpoint=TINY, candidate=given, size=(64, 64))
    more = {"tmp_path": tmp_path} if mode is recorded_layers else {}
    found = mode(choice, monkeypatch=monkeypatch, **more).candidate.plain()
    path = given or TINY
    assert found.pop("label").startswith("effconv ")
    if path.suffix:
        assert found == {"weights": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    else:
        assert found == {"weights": path.name, "checkpoint_fingerprint": open_checkpoint(path).fingerprint()}
    ours = open_checkpoint(TINY).fingerprint()
    assert (found.get("checkpoint_fingerprint") == ours) == (given is None)


def test_no_release_is_named_for_other_weights_on_a_dataset(tmp_path: Path) -> None:
    """`--coco` compares with the number published for a release, which PyTorch weights and edited ones are not."""
    assert [fingerprint_of(given(tmp_path), verify=True) for given in (safetensors, pickle, checkpoint)] == [None] * 3


def test_pages_name_the_file_and_what_is_in_it() -> None:
    record = make_record()
    sides = {
        "reference": {**record["reference"], "checkpoint": "d0", "checkpoint_fingerprint": "ab" * 32},
        "candidate": {**record["candidate"], "weights": "other.safetensors", "sha256": "cd" * 32},
    }
    named = ComparisonRecord.read(record | sides)
    for page in (comparison_markdown(named), render_page(named)):
        assert "other.safetensors" in page
        assert page.index("ab" * 32) < page.index("cd" * 32)
