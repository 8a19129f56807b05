"""Evaluations and ablations that are cut off: what is finished is kept, and the command that is named goes on."""

import errno
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.convert.output import OutputError
from effconv.effdet_torch.preprocessing.preprocess import Preprocessor
from effconv.parity.ablation.run import Ablator
from effconv.parity.evaluation import evaluate as evaluate_module
from small_images import write_pictures

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
MODEL = ["--model", str(SWISH / "config.json"), "--ckpt", str(SWISH)]
COUNT, FINISHED = 4, 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), COUNT)


@pytest.fixture(scope="module")
def commands(pictures: Path) -> dict[str, list[str]]:
    return {
        "eval": ["eval", "--coco", str(pictures), *MODEL, "--workers", "0"],
        "ablate": ["ablate", "--argmax", "--no-clip", "--coco", str(pictures), *MODEL, "--resamples", "20"],
    }


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str]) -> Result:
    """As typed: commands are told by `sys.argv`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["effconv", *words])
        return CliRunner().invoke(main, words)


def failing(after: int, error: BaseException, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises when it is called once more than `after` times."""
    left = [after]

    def call(*arguments: Any, **options: Any) -> Any:
        if not left[0]:
            raise error
        left[0] -= 1
        return function(*arguments, **options)

    return call


def cut_off(words: list[str], error: BaseException, after: int = FINISHED) -> Result:
    """The command, whose images or rows fail from some number on."""
    owner, name = (Preprocessor, "__call__") if words[0] == "eval" else (Ablator, "row")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, failing(after, error, getattr(owner, name)))
        return run(words)


def named_command(result: Result) -> list[str]:
    """The words after `effconv` of the command that the last line tells to go on with."""
    words = shlex.split(result.stderr.splitlines()[-1].partition("; go on with: ")[2])
    assert words[0] == "effconv"
    return words[1:]


def results(record: dict[str, Any]) -> Any:
    if "rows" not in record:
        return record["metrics"], record["detections"]
    return [(row["name"], row["metrics"], row["differences"]) for row in record["rows"]]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("name", ["eval", "ablate"])
def test_what_is_finished_is_kept(name: str, named: bool, commands: dict[str, list[str]], folder: Path) -> None:
    option, kept, of = {
        "eval": ("--detections", "detections.json.parts", f"{COUNT} images"),
        "ablate": ("--record", "ablation.json.rows", "3 rows"),
    }[name]
    words = [*commands[name], *([option, str(folder / kept.rpartition(".")[0])] if named else []), "--json"]
    result = cut_off(words, KeyboardInterrupt())
    assert result.exit_code == 130
    lines = result.stderr.strip().splitlines()
    place = folder / kept if named else kept
    assert lines[0] == "effconv: interrupted"
    assert lines[1].startswith(f"effconv: {FINISHED} of {of} are kept in {place}; go on with: effconv {name}")
    assert len(lines) == 2
    assert [each.name for each in folder.iterdir()] == [kept]
    # What is finished is not computed again: no more than the rest is allowed.
    rest = (COUNT if name == "eval" else 3) - FINISHED
    resumed = cut_off(named_command(result), RuntimeError("computed again"), rest)
    assert resumed.exit_code == 0, resumed.output
    assert results(json.loads(resumed.stdout)) == results(json.loads(run([*commands[name], "--json"]).stdout))
    assert [each.name for each in folder.iterdir()] == [kept.rpartition(".")[0]]


def test_places_that_are_taken_are_left_alone(commands: dict[str, list[str]], folder: Path) -> None:
    (folder / "detections.json").write_text("mine")
    (folder / "detections-2.json.parts").mkdir()
    result = cut_off(commands["eval"], KeyboardInterrupt())
    assert named_command(result)[-3:] == ["--detections", "detections-3.json", "--resume"]
    assert (folder / "detections.json").read_text() == "mine"


@pytest.mark.parametrize("error", [OutputError("no place"), OSError(errno.ENOSPC, "no place")], ids=["own", "system"])
def test_errors_after_the_last_image_say_it_too(error: Exception, commands: dict[str, list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_module, "evaluate", failing(0, error, evaluate_module.evaluate))
        result = run(commands["eval"])
    first, second = result.stderr.strip().splitlines()
    assert (result.exit_code, "no place" in first) == (2, True)
    assert second.startswith(f"effconv: {COUNT} of {COUNT} images are kept in detections.json.parts; go on with: ")
    assert cut_off(named_command(result), RuntimeError("computed again"), 0).exit_code == 0


def test_a_strict_run_goes_on_when_the_image_is_mended(folder: Path) -> None:
    pictures = write_pictures(folder / "pictures", COUNT)
    last = sorted((pictures / "val2017").iterdir())[-1]
    encoded = last.read_bytes()
    last.write_bytes(encoded[: len(encoded) // 2])
    result = run(["eval", "--coco", str(pictures), *MODEL, "--workers", "0", "--strict"])
    assert result.exit_code == 2
    assert f"effconv: {COUNT - 1} of {COUNT} images are kept in " in result.stderr
    last.write_bytes(encoded)
    assert cut_off(named_command(result), RuntimeError("computed again"), 1).exit_code == 0


def test_nothing_is_noted_where_nothing_is_finished(commands: dict[str, list[str]], folder: Path) -> None:
    for name, words in commands.items():
        result = cut_off(words, KeyboardInterrupt(), 0)
        assert (name, result.stderr.strip()) == (name, "effconv: interrupted")
    assert [*folder.iterdir()] == []


def test_where_nothing_can_be_kept_that_is_said(
    commands: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", failing(0, PermissionError(errno.EACCES, "Permission denied"), Path.mkdir))
    result = cut_off(commands["eval"], KeyboardInterrupt())
    assert result.exit_code == 130
    assert "what is finished cannot be kept in detections.json.parts" in result.stderr.splitlines()[-1]
