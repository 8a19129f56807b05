"""Commands that leave the engine to effconv say which it is, keep to it when they go on, and record its name."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from effconv.cli import main
from effconv.effdet_torch.engines import choice
from effconv.effdet_torch.engines.engines import make_engine
from effconv.parity import engine_choice
from effconv.parity.ablation import run as ablating
from effconv.parity.evaluation import detect
from effconv.parity.prediction import predict
from evaluation_runs import MODEL, SWISH, pictures  # noqa: F401  # a fixture

SAID = "engine: onnxruntime, as exporting for it pays from 3 images on, and there are "


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Engines that were made, the fast one in the runtime's place; an export pays from 3 images on."""
    names: list[str] = []

    def make(name, *arguments, **more):  # type: ignore[no-untyped-def]
        names.append(name)
        return make_engine("fast" if name == "onnxruntime" else name, *arguments, **more)

    for module in (detect, predict, ablating):
        monkeypatch.setattr(module, "make_engine", make)
    monkeypatch.setattr(choice, "_installed", lambda package: True)
    monkeypatch.setattr(choice, "BREAK_EVEN_IMAGES", 3)
    monkeypatch.setattr(engine_choice, "graphs_folder", lambda: tmp_path / "graphs")
    return names


def evaluate(pictures: Path, *words: object) -> tuple[dict[str, object], str]:  # noqa: F811
    arguments = ["eval", "--coco", str(pictures), *MODEL, "--workers", "0", "--json", *map(str, words)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def test_an_evaluation_records_the_engine_that_ran(pictures: Path, made: list[str]) -> None:  # noqa: F811
    record, said = evaluate(pictures, "--engine", "auto", "--limit", "3")
    assert (record["network_engine"], made) == ("onnxruntime", ["onnxruntime"])
    assert said.count("\n") == 1
    assert said == f"{SAID}3\n"
    record, said = evaluate(pictures, "--engine", "auto", "--limit", "2")
    assert (record["network_engine"], made[1:]) == ("fast", ["fast"])
    assert said == "engine: fast, as exporting for onnxruntime pays from 3 images on, not 2\n"
    assert evaluate(pictures, "--limit", "2")[1] == ""  # nothing was chosen


def test_a_run_that_is_gone_on_with_keeps_its_engine(
    pictures: Path,  # noqa: F811
    made: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A graph that was kept meanwhile would make another run of it, which is refused."""
    words = ("--engine", "auto", "--detections", tmp_path / "d.json")
    monkeypatch.setattr(choice, "BREAK_EVEN_IMAGES", 1000)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(detect, "write_line", lambda file, result: stop(1, 1))
        arguments = ["eval", "--coco", str(pictures), *MODEL, "--workers", "0", *map(str, words)]
        assert CliRunner().invoke(main, arguments).exit_code != 0
    monkeypatch.setattr(choice, "BREAK_EVEN_IMAGES", 1)
    record, said = evaluate(pictures, *words, "--resume")
    assert said == "engine: fast, as in the run that is gone on with\n"
    assert record["network_engine"] == "fast"
    assert made == ["fast", "fast"]


def test_a_prediction_records_the_engine_that_ran(pictures: Path, made: list[str], tmp_path: Path) -> None:  # noqa: F811
    words = ["predict", str(pictures / "val2017"), *MODEL, "-o", str(tmp_path / "out"), "--engine", "auto", "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["network_engine"] == "onnxruntime"
    assert made == ["onnxruntime"]
    assert result.stderr.startswith(SAID)


def test_ablations_are_all_of_one_engine(pictures: Path, made: list[str], tmp_path: Path) -> None:  # noqa: F811
    """Its record's baseline and every row of it name the engine; parts that are exchanged run as they are written."""
    words = ["ablate", "--no-clip", "--no-same-maxpool", "--ckpt", str(SWISH), "--model", str(SWISH / "config.json")]
    words += ["--coco", str(pictures), "--limit", "3", "--resamples", "5", "--json"]
    result = CliRunner().invoke(main, [*words, "--engine", "auto", "--record", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    engines = {row["name"]: row["engine"] for row in record["rows"]}
    assert engines == {"baseline": "onnxruntime", "no-clip": "onnxruntime", "no-same-maxpool": "eager"}
    assert record["baseline"]["engine"] == "onnxruntime"
    assert made == ["onnxruntime", "eager"]
    assert result.stderr.startswith(SAID)
