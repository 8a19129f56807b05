"""Benchmarks that have to refuse a contestant, and take no time before."""

import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.parity.benchmarks import evaluation as evaluation_benchmark
from effconv.parity.benchmarks import inference as inference_benchmark
from effconv.parity.benchmarks import input as input_benchmark
from effconv.parity.benchmarks import nms as nms_benchmark
from effconv.parity.benchmarks import predict as predict_benchmark

REFUSED = "does other work than effconv"
MODULES = (evaluation_benchmark, inference_benchmark, input_benchmark, nms_benchmark, predict_benchmark)


def take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time that is taken fails the test; threads stay as the other tests have them."""

    def taken(*given: object) -> None:
        raise AssertionError("time was taken")

    for module in MODULES:
        for name in ("measure", "take_turns", "use_threads", "use_one_thread"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, taken if name in ("measure", "take_turns") else lambda *given: None)


def refused(*arguments: object) -> str:
    """What the benchmark says when it refuses."""
    result = CliRunner().invoke(main, ["bench", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert REFUSED in result.stderr, result.stderr
    return result.stderr
