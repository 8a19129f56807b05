"""A comparison as plain values: what is said in one line, what is pictured, and that every number is finite."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from effconv.convert.layers import Layer
from effconv.parity.comparison.backward import GradientRow
from effconv.parity.comparison.explain import Explained, Explanation
from effconv.parity.comparison.records import (
    Candidate,
    ComparisonRecord,
    Images,
    NoiseFigures,
    Reference,
    TensorFault,
    Unexercised,
    WeightsByName,
)
from effconv.parity.comparison.rows import Check, Noise, Row
from effconv.parity.comparison.verdict import Sides, comparison_record, verdict
from effconv.parity.difference import HISTOGRAM_BINS, HISTOGRAM_LOW, HISTOGRAM_WIDTH, difference
from effconv.parity.reference.reading import NOT_COVERED
from effconv.strict_json import as_read

SIDES = Sides(
    Reference(kind="kept", label="theirs", more={}),
    Candidate(label="ours"),
    Images(label="noise", shape=(1, 3, 64, 64)),
)
NOISE = Noise(1e-7, 2e-7, True)


def check(error: float, noise: Noise | None = None) -> Check:
    """A check of one pixel that is `error` off, with a limit of 1e-3."""
    b = np.ones((1, 2, 3, 1))
    a = b.copy()
    a[0, 1, 2, 0] += min(error, 1.0)
    return Check(difference(a, b, 1.0)._replace(error=error), 1e-3, noise)


def row(key: str, faults: dict[Any, str] | None = None, **errors: float) -> Row:
    checks = {name.replace("_", " "): check(error, NOISE) for name, error in errors.items()}
    return Row(Layer(key, endpoints=(f"official/{key}",)), (1, 2, 3, 1), checks, faults or {})


GOOD = row("good", float64_local=0.0, float32_local=1e-4, float32_accumulated=1e-3)
BAD = row("bad", float64_local=2e-3, float32_local=1e-2, float32_accumulated=1e-1)
LOST = row("lost", {"local": "no such layer", "accumulated": "no such layer"})
GRADIENT = GradientRow("weight", "kernel", (3,), {"float64": check(0.0)})
WRONG = GradientRow("bias", "bias", (3,), {}, "NaN in the candidate")


def record_of(
    rows: list[Row], gradient_rows: list[GradientRow] | None = None, *explanations: Explanation
) -> ComparisonRecord:
    record = comparison_record("tiny", rows, gradient_rows or [], Explained(explanations), SIDES, "effconv parity")
    assert ComparisonRecord.read(as_read(record.plain())) == record
    return record


@pytest.mark.parametrize(
    ("rows", "gradient_rows", "line"),
    [
        ([], [], "nothing was compared"),
        ([GOOD, GOOD], [], "nothing changed on the way: all 2 layers hold"),
        (
            [GOOD, BAD, LOST],
            [],
            "2 of 3 layers differ, first bad (official/bad): float64 local error 2.0e-03, limit 1.0e-03",
        ),
        (
            [LOST],
            [GRADIENT],
            "1 of 1 layers differ, first lost (official/lost): no such layer; none of 1 gradients differs",
        ),
        ([GOOD], [GRADIENT, WRONG], "nothing changed on the way: all 1 layers hold; 1 of 2 gradients differs"),
        ([GOOD], [WRONG, WRONG], "nothing changed on the way: all 1 layers hold; 2 of 2 gradients differ"),
    ],
)
def test_one_line_says_what_was_found(rows: list[Row], gradient_rows: list[GradientRow], line: str) -> None:
    assert verdict(rows, gradient_rows, SIDES.reference) == line
    record = record_of(rows, gradient_rows)
    assert record.verdict == line
    assert record.ok is (rows != [] and {each.ok for each in (*rows, *gradient_rows)} == {True})


def test_a_record_describes_every_row_and_both_sides() -> None:
    record = record_of([GOOD, BAD, LOST], [GRADIENT, WRONG])
    assert (record.model, record.first_failure) == ("tiny", "bad")
    assert (record.reference, record.candidate, record.images) == SIDES
    assert record.provenance["command"] == "effconv parity"
    assert [each.layer for each in record.rows] == ["good", "bad", "lost"]
    assert [each.official for each in record.rows] == ["official/good", "official/bad", "official/lost"]
    assert [each.ok for each in record.rows] == [True, False, False]
    assert [each.fault for each in record.rows] == ["", "", "no such layer"]
    good = record.rows[0]
    assert good.shape == (1, 2, 3, 1)
    assert list(good.checks) == ["float64 local", "float32 local", "float32 accumulated"]
    found = good.checks["float32 local"]
    assert found.noise == NoiseFigures(candidate=1e-7, reference=2e-7, estimated=True)
    assert (found.ok, found.error, found.limit) == (True, 1e-4, 1e-3)
    measured = GOOD.checks["float32 local"].difference
    assert [found.rms, found.cosine, found.ulp] == [measured.rms, measured.cosine, measured.ulp]
    assert not record.rows[1].checks["float32 local"].ok
    weight, bias = record.backward
    assert (weight.variable, weight.official, weight.shape, weight.ok) == ("weight", "kernel", (3,), True)
    assert weight.checks["float64"].noise is None
    assert (bias.ok, bias.fault, bias.checks) == (False, "NaN in the candidate", {})
    assert "backward" not in record_of([GOOD]).plain()


def test_a_layer_is_pictured_by_its_first_failing_check() -> None:
    late = row("late", float64_local=0.0, float32_local=1e-4, float32_accumulated=1e-2)
    other = row("other", float64_local=0.0)
    pictures = [each.pictures for each in record_of([GOOD, BAD, late, other]).rows]
    pictured = [each.histogram.check for each in pictures if each and each.histogram]
    assert pictured == ["float32 accumulated", "float64 local", "float32 accumulated", "float64 local"]
    bad = record_of([BAD]).rows[0].pictures
    assert bad
    assert bad.histogram
    assert bad.heat
    assert (bad.histogram.low, bad.histogram.width) == (HISTOGRAM_LOW, HISTOGRAM_WIDTH)
    assert len(bad.histogram.counts) == HISTOGRAM_BINS
    assert bad.histogram.zeros == 5
    assert bad.heat.check == "float64 local"
    assert bad.heat.values == ((0, 0, 0), (0, 0, pytest.approx(2e-3)))
    lost = record_of([LOST]).plain()["rows"][0]
    assert lost["histogram"] is lost["heat"] is None


def test_what_is_not_finite_becomes_nothing() -> None:
    found = check(math.inf).difference._replace(heat=np.array([[math.nan, 1.0]], np.float32))
    infinite = Check(found, math.inf, Noise(math.inf, math.nan, False))
    record = record_of([Row(Layer("a"), (1,), {"float32 local": infinite}, {})])
    written = record.rows[0].checks["float32 local"]
    assert (written.error, written.limit, written.ok) == (None, None, False)
    assert written.noise == NoiseFigures(candidate=None, reference=None, estimated=False)
    assert record.plain()["rows"][0]["heat"]["values"] == [[None, 1.0]]


def test_pictures_can_be_left_out() -> None:
    whole = record_of([GOOD, BAD])
    record, plain = whole.plain(), whole.without_pictures().plain()
    for full, short in zip(record["rows"], plain["rows"], strict=True):
        assert {**short, "histogram": full["histogram"], "heat": full["heat"]} == full
        assert not {"histogram", "heat"} & set(short)
    assert {**plain, "rows": record["rows"]} == record


def test_explanations_say_whether_they_explain_everything() -> None:
    whole = Explanation("no-same-conv", "pads symmetrically", "candidate", "a", None)
    part = whole._replace(first_failure_after="b")
    found = record_of([BAD], [], whole, part).explanations
    assert [each.explains for each in found] == [True, False]
    assert found[1].first_failure_after == "b"
    assert (found[0].change, found[0].side, found[0].from_layer) == ("no-same-conv", "candidate", "a")


DIFFERENT = TensorFault(tensor="conv.weight", official="conv/kernel", reason="8 of 144 values", differ=8, values=144)
BY_TENSORFLOW = WeightsByName(
    compared=339, differ=(), read_by="by TensorFlow", checkpoint="model", checkpoint_fingerprint="sha256:00"
)
BY_EFFCONV = replace(BY_TENSORFLOW, read_by=NOT_COVERED)
UNREACHED = (Unexercised(module="conv", weights=8, of=9, taps=((0, 0),)),)
SAME = "nothing changed on the way: all 1 layers hold, all 339 tensors are the checkpoint's"


@pytest.mark.parametrize(
    ("layer", "tensors", "line"),
    [
        (GOOD, BY_TENSORFLOW, SAME),
        (GOOD, BY_EFFCONV, f"{SAME}, as effconv reads it; not reached by this input: 8 weights of 1 kernel, first "),
        (GOOD, None, "nothing changed on the way: all 1 layers hold; not reached by this input: 8 weights of 1 kernel"),
        (
            GOOD,
            replace(BY_TENSORFLOW, differ=(DIFFERENT,)),
            "all 1 layers hold on this input, but 1 of 339 tensors differs from the checkpoint: conv.weight "
            "(conv/kernel), 8 of 144 values",
        ),
        (BAD, BY_TENSORFLOW, "1 of 1 layers differ, first bad (official/bad): float64 local"),
        (
            BAD,
            replace(BY_TENSORFLOW, differ=(replace(DIFFERENT, tensor=""), DIFFERENT)),
            "1 of 1 layers differ, first bad (official/bad): float64 local error 2.0e-03, limit 1.0e-03; 2 of 339 "
            "tensors differ from the checkpoint: conv/kernel, 8 of 144 values",
        ),
    ],
)
def test_tensors_that_are_not_the_checkpoints_are_no_proof(
    layer: Row, tensors: WeightsByName | None, line: str
) -> None:
    record = comparison_record("tiny", [layer], [], Explained(), SIDES, "effconv parity", tensors, UNREACHED)
    assert record.verdict.startswith(line)
    assert ("not reached" in record.verdict) is (tensors is None or tensors is BY_EFFCONV)
    assert record.ok is (layer is GOOD and not (tensors and tensors.differ))
    assert (record.tensors, record.unexercised) == (tensors, UNREACHED)


def test_two_runs_of_effconv_are_no_proof_and_say_so() -> None:
    itself = Reference(kind="torch", label="effconv", more={})
    assert verdict([GOOD], [], itself) == "two runs of effconv agree: all 1 layers hold"
    assert verdict([BAD], [], itself).startswith("two runs of effconv differ: 1 of 1 layers differ, first bad")
    record = comparison_record("tiny", [GOOD], [], Explained(), SIDES._replace(reference=itself), "effconv parity")
    assert record.verdict == verdict([GOOD], [], itself)
