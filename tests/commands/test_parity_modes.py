"""Every option of `effconv parity`, in each of its comparisons: it reaches what is called, or it is refused."""

import contextlib
import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from option_values import given, options_of

from effconv.cli import main
from effconv.commands import parity_subject
from effconv.commands.parity_modes import USED, Mode
from effconv.errors import EffconvError
from effconv.parity.comparison import backbone as backbones
from effconv.parity.comparison import end_to_end_job, layerwise
from effconv.parity.comparison import engine as engine_parity
from effconv.parity.comparison.backbone import Completed
from effconv.parity.evaluation import published
from effconv.parity.exporting import file_parity
from effconv.parity.referee import module_job, stages_job

COMMAND = main.commands["parity"]
OPTIONS = options_of(COMMAND)
ASKED = {
    Mode.LAYERS: ["--model", "d1"],
    Mode.END_TO_END: ["--model", "d1", "--end-to-end"],
    Mode.COCO: ["--model", "d1", "--coco", "pictures"],
    Mode.ENGINE: ["--model", "d1", "--engine", "fast"],
    Mode.STAGES: ["--model", "d1", "--port", "effdet", "--end-to-end"],
    Mode.MODULE: ["--model", "d1", "--module", "mine:build"],
    Mode.RECORDING: ["--model", "d1", "--candidate-trace", "mine.npz"],
    Mode.GRAPH: ["--model", "d1", "--engine", "mine.onnx"],
    Mode.EXPORTED: ["--model", "d1", "--engine", "mine.tflite"],
}
# Where they choose the comparison; otherwise they are tried like the rest.
CHOOSING = {"end_to_end", "coco", "engine", "port", "module", "candidate_trace"}
PRINTED = {"force", "layerwise", "report", "as_json"}  # used once the comparison is made


class ComparisonError(EffconvError):
    """Raised in place of the comparison, with all it was called with."""


@pytest.fixture(autouse=True)
def comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_in(mode: Mode) -> Any:
        def compare(*arguments: Any, **more: Any) -> None:
            plain = [each for each in [*arguments, *more.values()] if not callable(each) and not isinstance(each, str)]
            fetch = next(each for each in arguments if callable(each))
            raise ComparisonError(repr((mode, plain, *(each for each in arguments if each == "fast"), fetch("d1"))))

        return compare

    monkeypatch.setattr(layerwise, "compare_layerwise", stand_in(Mode.LAYERS))
    whole = Completed(Path("whole"), {})
    monkeypatch.setattr(backbones, "completed", lambda *arguments, **options: contextlib.nullcontext(whole))
    monkeypatch.setattr(end_to_end_job, "compare_end_to_end", stand_in(Mode.END_TO_END))
    monkeypatch.setattr(published, "compare_with_published", stand_in(Mode.COCO))
    monkeypatch.setattr(engine_parity, "compare_engine", stand_in(Mode.ENGINE))

    def module(choice: Any, theirs: Any, *arguments: Any) -> None:
        recorded = Mode.RECORDING if theirs.candidate_trace else Mode.MODULE
        stand_in(Mode.GRAPH if theirs.graph else recorded)(choice, theirs, *arguments)

    monkeypatch.setattr(module_job, "compare_with_module", module)
    monkeypatch.setattr(
        stages_job, "compare_port_stages", lambda port, *arguments: stand_in(Mode.STAGES)([port], *arguments)
    )
    monkeypatch.setattr(file_parity, "compare_exported", stand_in(Mode.EXPORTED))
    monkeypatch.setattr(parity_subject, "fetch_release", lambda model, generation, verify: (model, generation, verify))


def run(*words: str) -> str:
    result = CliRunner().invoke(main, ["parity", *words])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("effconv: "), result.stderr
    return result.stderr


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_used_or_refused(name: str, mode: Mode) -> None:
    plain, words = run(*ASKED[mode]), [*ASKED[mode], *given(OPTIONS[name])]
    assert f"{mode}" in plain
    found = run(*words)
    if name not in USED[mode]:
        # The options that choose a comparison make it another one, which is refused for whatever the first needed.
        other = name in CHOOSING and f"{mode}" not in found
        assert other or f"effconv: {OPTIONS[name].opts[0]}: not used by {mode.value}; leave it out\n" in found
        assert len(found.splitlines()) <= 2
    elif name in PRINTED or words == ASKED[mode]:
        assert found == plain
    elif name != "end_to_end":
        assert found != plain
        assert "not used by" not in found
    # What is found must be the same whichever way it is asked for: no default is ever refused.
    assert run(*ASKED[mode]) == plain


def test_each_comparison_is_the_one_asked_for() -> None:
    for mode, words in ASKED.items():
        assert f"{mode}" in run(*words)


def test_an_engine_is_not_compared_end_to_end() -> None:
    refused = run("--end-to-end", "--engine", "fast", "--explain")
    assert "--explain, --engine: not used by --end-to-end; leave them out" in refused
    assert "--explain goes with a comparison of layers" in refused
    assert "--engine goes with a comparison of layers or --coco" in refused


def test_what_to_do_is_said() -> None:
    refused = run("--coco", "pictures", "--candidate", "mine.safetensors")
    assert "--candidate: not used by --coco without --end-to-end; leave it out" in refused
    assert "--ckpt mine.safetensors evaluates them" in refused
    assert "--nms goes with --end-to-end or --coco" in run("--nms", "soft")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--end-to-end", "--image", "x.jpg", "--coco", "pictures"), "--image and --coco: choose"),
        (("--model", "d1", "--ckpt", "d1", "--generation", "coco"), "--generation and --ckpt: choose one"),
        (("--generation", "coco"), "--generation: name the model"),
        (("--generation", "coco", "--reference", "torch"), "--generation: name the model"),
    ],
)
def test_what_another_option_makes_useless_is_refused(words: tuple[str, ...], said: str) -> None:
    assert said in run(*words)


def test_calls_of_the_documentation_are_taken(repository: Path) -> None:
    """Every `effconv parity ...` of a page's code reaches its comparison."""
    pages = [repository / "README.md", *sorted((repository / "docs").glob("*.md"))]
    lines = [line for page in pages for line in page.read_text().splitlines() if line.startswith("effconv parity")]
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line.partition("  #")[0])[2:]
        assert "Mode." in run(*words), line


def test_settings_are_those_that_evaluations_have() -> None:
    """`dataclasses` of the pipeline and options of the command agree, so that the table misses none."""
    from effconv.commands.evaluation_options import NAMES, SETTINGS
    from effconv.parity.evaluation.pipeline import Settings

    assert {NAMES.get(name, name) for name in SETTINGS} == {field.name for field in dataclasses.fields(Settings)}
