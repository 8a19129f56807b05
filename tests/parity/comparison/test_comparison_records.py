"""Records of comparisons as values: what is read is what was written, key by key and in the same order."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pytest

from effconv.errors import EffconvError
from effconv.parity.comparison.end_to_end_record import EndToEndRecord, EndToEndTable
from effconv.parity.comparison.engine_record import EngineRecord, OutputRow
from effconv.parity.comparison.measured_records import ProvenModels
from effconv.parity.comparison.records import (
    BackboneRecord,
    Candidate,
    ComparisonRecord,
    ModuleComparisonRecord,
    TapRow,
    TensorFault,
    Unexercised,
    WeightsByName,
)
from effconv.parity.plain import Plain
from effconv.parity.referee.records import RefereeRecord
from effconv.strict_json import as_read, json_text
from page_record import make_record

Kind = TypeVar("Kind", bound=ComparisonRecord)
FAULTS = (
    TensorFault(tensor="a.weight", official="a/kernel", reason="8 of 9 values", differ=8, values=9),
    TensorFault(tensor="", official="b/kernel", reason="not in the candidate", differ=None, values=None),
)
FULL = {
    "tensors": WeightsByName(
        compared=2, differ=FAULTS, read_by="by TensorFlow", checkpoint="model", checkpoint_fingerprint="sha256:00"
    ),
    "unexercised": (
        Unexercised(module="images", of=3, channels=("red and green",)),
        Unexercised(module="a", weights=8, of=9, taps=((0, 0), (0, 1)), channels=(1,)),
    ),
    "backbone": BackboneRecord(file="b.pth", sha256=None, names=None, tensors=1, left_out=("head",), rest="random"),
}
ORDER = ["model", "ok", "verdict", "first_failure", "reference", "candidate", "images", "rows", "tensors"]
ORDER += ["unexercised", "explanations", "provenance"]


def whole() -> ComparisonRecord:
    """A comparison with everything in it."""
    return _with(ComparisonRecord, ComparisonRecord.read(make_record()), FULL)


def of_a_module() -> ModuleComparisonRecord:
    tap = TapRow(layer="backbone.stem.conv", module="stem.0", call=0, evidence="its weight is ours")
    return _with(ModuleComparisonRecord, whole(), {"pairing": (tap,), "unpaired": ("bifpn",), "backbone": None})


def _with(kind: type[Kind], record: ComparisonRecord, changed: dict[str, Any]) -> Kind:
    return kind(**{field.name: getattr(record, field.name) for field in fields(record)} | changed)


def written_and_read(value: Plain) -> None:
    plain = as_read(value.plain())
    assert type(value).read(plain) == value
    assert json_text(type(value).read(plain).plain()) == json_text(value.plain()) == json_text(plain)


@pytest.mark.parametrize("make", [whole, of_a_module, lambda: whole().without_pictures()])
def test_a_comparison_is_read_as_it_was_written(make: Any) -> None:
    written_and_read(make())


def test_keys_stand_where_they_always_stood() -> None:
    assert list(whole().plain()) == [*ORDER, "backward", "backbone"]
    assert list(of_a_module().plain()) == [*ORDER, "backward", "pairing", "unpaired"]
    row = whole().plain()["rows"][0]
    assert list(row) == ["layer", "official", "shape", "ok", "fault", "checks", "soundness", "histogram", "heat"]
    assert list(whole().without_pictures().plain()["rows"][0]) == list(row)[:-2]
    check = ["ok", "error", "rms", "cosine", "ulp", "limit", "times_bound", "noise"]
    assert [list(each) for each in row["checks"].values()] == [check] * 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 0}, "ComparisonRecord: expected only keys that are known, found seed"),
        ({"candidate": {}}, r"ComparisonRecord\.candidate\.label: is missing"),
        ({"rows": [{"layer": "a"}]}, r"ComparisonRecord\.rows\[0\]\.official: is missing"),
        ({"images": {"label": "noise", "shape": [3, 64, 64]}}, r"images\.shape: expected 4 values, found 3"),
    ],
)
def test_what_is_no_such_record_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(EffconvError, match=said):
        ComparisonRecord.read(make_record() | changed)


COMMITTED: dict[str, type[Plain]] = {"end-to-end": EndToEndTable, "parity": ProvenModels, "referee": RefereeRecord}


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_record_is_read_and_written_as_it_is(name: str, repository: Path) -> None:
    text = (repository / "results" / "measured" / f"{name}.json").read_text()
    assert json_text(COMMITTED[name].read(json.loads(text)).plain(), indent=1) + "\n" == text


def test_the_record_of_one_model_end_to_end_is_read_as_it_was_written(repository: Path) -> None:
    text = (repository / "results" / "measured" / "end-to-end.json").read_text()
    for row in EndToEndTable.read(json.loads(text)).rows:
        record = EndToEndRecord(row=row, provenance={"command": "effconv parity"})
        written_and_read(record)
        assert list(record.plain()) == [*row.plain(), "provenance"]


def test_an_engines_record_is_read_as_it_was_written() -> None:
    rows = tuple(OutputRow(case="1 x 64x64", output="a", error=error, limit=1e-6, holds=True) for error in (0.0, None))
    record = EngineRecord(
        what="an engine's outputs",
        command="effconv parity",
        model="d0",
        checkpoint="d0",
        candidate=Candidate(label="effconv", weights="a.pth", sha256="00"),
        engine="fast",
        images="noise",
        cases=("1 x 64x64",),
        threads=1,
        layers_watched="the model's",
        first_unsound=None,
        rows=rows,
        float64_error=None,
        float64_limit=None,
        ok=True,
        provenance={"device": "cpu"},
    )
    written_and_read(record)
    assert list(record.plain())[:5] == ["what", "command", "model", "checkpoint", "candidate"]
