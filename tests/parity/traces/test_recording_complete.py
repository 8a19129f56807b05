"""A recording does not say what must be in it: a layer left out is missing, or counted, whatever its header lists."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.convert.layers import layers
from effconv.parity.comparison.compare import compare
from effconv.parity.comparison.records import Reference
from effconv.parity.comparison.rows import Row, first_failure
from effconv.parity.comparison.verdict import verdict
from effconv.parity.traces.candidate_trace import CandidateTrace
from effconv.parity.traces.graph import landmarks
from effconv.parity.traces.images import noise
from effconv.parity.traces.recording import RecordedTrace, record
from small_traces import members, with_header
from tiny_models import load_tiny

TINY = Path(__file__).parents[2] / "golden" / "tiny-swish"
ALL = 331


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A complete recording that says it is TensorFlow's, as a forger's would."""
    model = load_tiny(TINY)
    trace = CandidateTrace(model, noise(0, (64, 64)), {"kind": "tensorflow"})
    assert record(trace, tmp_path / "trace.npz", with_float64=True) == ALL == len(layers(model.config))
    return tmp_path / "trace.npz"


def header(path: Path) -> Any:
    return json.loads(str(np.load(io.BytesIO(members(path)["header.npy"]))))


def compared(path: Path) -> tuple[list[Row], str]:
    trace = RecordedTrace(path)
    rows = compare(trace, load_tiny(TINY))
    return rows, verdict(rows, [], Reference.of(trace.source))


@pytest.mark.parametrize("kind", ["tensorflow", "torch", "made up", None])
def test_a_header_of_one_key_hides_nothing(kind: str | None, path: Path) -> None:
    with_header(path, keys=["backbone.stem.conv"], required=[], source={"kind": kind, "label": "x"})
    rows, line = compared(path)
    assert f"{ALL - 1} of {ALL} layers differ" in line
    assert {row.reason for row in rows[1:]} == {"not in the reference"}


@pytest.mark.parametrize("kind", ["graph", "saved model", "golden"])
def test_an_export_has_every_output(kind: str, path: Path) -> None:
    outputs = [f"class_head.predict[{level}]" for level in range(3, 8)]
    keys = [key for key in header(path)["keys"] if key != outputs[2]]
    with_header(path, keys=keys, required=[], source={"kind": kind, "label": "x"})
    rows, line = compared(path)
    first = first_failure(rows)
    assert first is not None
    assert (first.layer.key, first.reason) == (outputs[2], "not in the reference")
    assert line.startswith(f"1 of {ALL} layers differ, first {outputs[2]}")


def test_a_layer_hidden_behind_another_kind_is_counted(path: Path) -> None:
    hidden = "backbone.blocks.3.depthwise"
    keys = [key for key in header(path)["keys"] if key != hidden]
    with_header(path, keys=keys, required=[], source={"kind": "golden", "label": "x"})
    # What follows it was recorded from its float32 values, which the candidate was not given.
    assert f"1 of {ALL} layers differ, first {hidden}_norm" in compared(path)[1]
    with_header(path, kinds=["accumulated"])
    assert compared(path)[1] == (
        f"nothing changed on the way: {ALL - 1} of {ALL} layers are in the reference, and hold; "
        "from the image on only, no layer on the reference's own input"
    )


def test_a_header_may_only_add(path: Path) -> None:
    added = "box_head.convs.0.depthwise[3]"
    with_header(path, required=[added], source={"kind": "graph", "label": "x"})
    trace = RecordedTrace(path)
    assert trace.required == landmarks(trace.config) | {added}
    assert added not in landmarks(trace.config)


def test_the_headers_noise_sets_no_limit(path: Path) -> None:
    """A forged noise of a thousand changes what is shown, and no limit."""

    def limits(each: Path) -> dict[str, float]:
        return {
            f"{row.layer.key} {name}": check.limit for row in compared(each)[0] for name, check in row.checks.items()
        }

    with_header(path, float64=False, noise={})
    before = limits(path)
    loud = {key: {"local": 1e3, "accumulated": 1e3} for key in header(path)["keys"]}
    with_header(path, noise=loud)
    assert limits(path) == before
    assert compared(path)[0][0].checks["float32 local"].noise.reference == 1e3  # type: ignore[union-attr]
