"""Tables of what verdicts allow and refuse, from records made by hand."""

from effconv.parity.comparison.proof_tables import bounds_table, float32_summary, smallest_table, verdicts_table


def test_bounds_by_kind_of_layer() -> None:
    clean = [
        {"kind": "norm", "layers": 3, "candidate": 0.25, "reference": 0.5},
        {"kind": "norm", "layers": 4, "candidate": 0.125, "reference": 0.75},
        {"kind": "sum", "layers": 5, "candidate": 0.0, "reference": 0.0},
    ]
    faults = [{"kind": "norm", "times_bound": times} for times in (70.0, 12.5, None)]
    lines = bounds_table({"clean": clean, "faults": faults}).splitlines()
    assert lines[2:] == ["| norm | 7 | 0.25 | 0.75 | 2 | 12.5 |", "| sum | 5 | 0.00 | 0.00 | 0 | - |"]


def test_faults_and_clean_runs_are_counted() -> None:
    faults = [
        {"side": "ours", "named": "a", "planted_in": "a", "detected": True},
        {"side": "ours", "named": "b", "planted_in": "a", "detected": True},
        {"side": "theirs", "named": None, "planted_in": "a", "detected": False},
    ]
    runs = [{"false_alarm": None, "model": "one"}, {"false_alarm": "a", "model": "two"}]
    text = float32_summary({"faults": faults, "clean_runs": runs})
    assert text.startswith("3 faults of float32 alone, 2 in our network and 1 in the reference: 2 detected, 1 with the")
    assert "2 clean runs of 2 models" in text
    assert text.endswith("1 false alarms.")


def test_what_is_not_found_and_not_refused_is_said() -> None:
    smallest = [{"kind": "norm", "smallest_found": 1.5e-6}, {"kind": "sum", "smallest_found": None}]
    assert smallest_table({"sensitivity": smallest}).splitlines()[2:] == ["| norm | 1.5e-06 |", "| sum | not found |"]
    row = {"verdict": "parity", "wrong_result": "zeros", "planted": 2, "test": "tests/test_it.py::test_zeros"}
    lines = verdicts_table({"rows": [row | {"refused": 2}, row | {"refused": 1}]}).splitlines()[2:]
    assert lines == [f"| `parity` | zeros | 2 | {shown} | `test_it.py::test_zeros` |" for shown in ("2", "**1**")]
