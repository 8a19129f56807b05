"""Whole runs of `eval` by engine: who takes turns when, what is counted, and runs that did other work."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.errors import EffconvError
from effconv.parity.benchmarks import runs
from effconv.parity.benchmarks.process import Run
from effconv.parity.benchmarks.runs import ENGINES, RunsRecord, measure_runs, runs_table
from small_images import SIZES, write_pictures

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
MODEL = str(SWISH / "config.json")
COSTS = {"eager": 6.0, "fast": 2.0, "onnxruntime": 1.0}


def of_engine(words: tuple[str, ...]) -> str:
    return words[words.index("--engine") + 1]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Puts processes in the place of `eval` that say what they did, at other speeds from round to round."""

    def put(images: Callable[[int], int] = lambda turn: 66, engine: Callable[[str], str] = str) -> list[str]:
        turns: list[str] = []

        def run(module: str, *words: str, environment: Mapping[str, str]) -> Run:
            assert (module, environment["OMP_NUM_THREADS"]) == ("effconv", "2")
            turns.append(of_engine(words))
            round_of = (len(turns) - 1) // len(ENGINES)
            # The first round is not counted, the machine is ten times as slow in the last.
            seconds = COSTS[turns[-1]] * {0: 100, 3: 10}.get(round_of, 1)
            record = {"network_engine": engine(turns[-1]), "images": images(round_of)}
            return Run(seconds, 1.0, json.dumps(record))

        monkeypatch.setattr(runs, "run_process", run)
        monkeypatch.setattr(runs, "make_checkpoint", lambda model, prefix: None)
        return turns

    return put


def test_engines_take_turns_and_the_first_round_is_not_counted(stand_in: Callable[..., list[str]]) -> None:
    turns = stand_in()
    record = measure_runs(Path("x"), "d0", 2, 3, "effconv bench runs")
    rounds = [turns[start : start + 3] for start in range(0, len(turns), 3)]
    assert [sorted(each) for each in rounds] == [sorted(ENGINES)] * 4
    assert [each[0] for each in rounds[1:]] == list(ENGINES)
    assert record.seconds == {"eager": (6, 6, 60), "fast": (2, 2, 20), "onnxruntime": (1, 1, 10)}
    found = {row.engine: (row.seconds, row.images_per_second, row.times_faster) for row in record.rows}
    assert found == {"eager": (6, 11, 1), "fast": (2, 33, 3), "onnxruntime": (1, 66, 6)}
    assert RunsRecord.read(json.loads(json.dumps(record.plain()))) == record
    assert "| fast | 2.0 | 33.0 | 3.00 |" in runs_table(record)


def test_a_run_of_another_engine_counts_for_nothing(stand_in: Callable[..., list[str]]) -> None:
    stand_in(engine=lambda name: "eager")
    with pytest.raises(EffconvError, match="the engine onnxruntime was asked for, and eager ran"):
        measure_runs(Path("x"), "d0", 2, 1, "")


def test_images_that_change_are_refused(stand_in: Callable[..., list[str]]) -> None:
    stand_in(images=lambda turn: 66 - turn)
    with pytest.raises(EffconvError, match=r"x: changed while it was measured on: \[64, 65, 66\] images"):
        measure_runs(Path("x"), "d0", 2, 2, "")


def test_bench_runs_evaluates_as_the_command_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words it gives `eval` are such as `eval` takes; processes are this one, which need no start."""

    def run(module: str, *words: str, environment: Mapping[str, str]) -> Run:
        with monkeypatch.context() as patch:
            patch.setenv(runs.CACHE_VARIABLE, environment[runs.CACHE_VARIABLE])
            result = CliRunner().invoke(main, [*words, "--workers", "0"])
        assert result.exit_code == 0, result.stderr
        return Run(2.0, 1.0, result.stdout)

    def make(model: str, prefix: str) -> None:
        for path in SWISH.glob("model.*"):
            shutil.copy(path, Path(prefix).parent / path.name)

    monkeypatch.setattr(runs, "run_process", run)
    monkeypatch.setattr(runs, "make_checkpoint", make)
    monkeypatch.setattr(runs, "ENGINES", ("eager", "fast"))
    words = ("bench", "runs", "--coco", str(write_pictures(tmp_path)), "--model", MODEL, "--rounds", "1", "--json")
    result = CliRunner().invoke(main, [*words, "--record", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.stderr
    record = RunsRecord.read(json.loads((tmp_path / "r.json").read_text()))
    assert json.loads(result.stdout) == record.plain()
    assert (record.images, {row.engine for row in record.rows}) == (len(SIZES), {"eager", "fast"})
