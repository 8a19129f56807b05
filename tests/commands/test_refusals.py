"""Every option of a command that does more than one thing: it reaches what is called, or it is refused in one line."""

import re
import types
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import torch
from click.testing import CliRunner
from option_values import given, options_of

from effconv.cli import main
from effconv.commands import evaluate as evaluating
from effconv.commands import finetune as finetuning
from effconv.commands import predict as predicting
from effconv.commands import trace as tracing
from effconv.commands import verify as verifying
from effconv.commands.evaluate import SCORING
from effconv.errors import EffconvError
from effconv.parity import embedded
from effconv.parity.ablation import registry
from effconv.parity.ablation import run as ablation_run
from effconv.parity.ablation import study as ablation_study
from effconv.parity.benchmarks import (
    ablation,
    coco,
    conversion,
    evaluation,
    inference,
    layerwise,
    nms,
    roofline,
    runs,
    training,
)
from effconv.parity.benchmarks import input as input_contest
from effconv.parity.benchmarks import predict as predict_contest
from effconv.parity.comparison import subject
from effconv.parity.datasets import check, shapes
from effconv.parity.evaluation import evaluate
from effconv.parity.prediction import predict
from effconv.parity.traces import recording
from effconv.parity.training import train
from effconv.parity.verification import verify

CHANGES = ("--no-same-maxpool", "--no-clip")


class Use(NamedTuple):
    """One way to use a command: its words, the options that have no part in it, and those used after the work."""

    words: tuple[str, ...]
    refused: frozenset[str] = frozenset()
    afterwards: frozenset[str] = frozenset({"as_json"})


def names(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


LATER = names("as_json skip_unreadable")
ELSEWHERE = names("annotations images")  # of a dataset that is no folder
FILE = ("--annotations", "a.json", "--images", "pictures")
USES = {
    "a model's evaluation": Use(("eval", "--coco", "x", "--model", "d1"), ELSEWHERE, LATER),
    "an evaluation of a file's images": Use(("eval", *FILE, "--model", "d1"), names("coco split"), LATER),
    "an evaluation of detections": Use(
        ("eval", "--coco", "x", "--results", "y"), ELSEWHERE | options_of(main.commands["eval"]).keys() - SCORING
    ),
    "an evaluation of a checkpoint": Use(("eval", "--coco", "x", "--ckpt", "y"), ELSEWHERE | {"generation"}, LATER),
    "a strict evaluation": Use(
        ("eval", "--coco", "x", "--model", "d1", "--strict"), ELSEWHERE | {"skip_unreadable"}, names("as_json strict")
    ),
    "a prediction": Use(("predict", "x.jpg", "--model", "d1", "-o", "out"), afterwards=LATER),
    "a prediction by a checkpoint": Use(
        ("predict", "x.jpg", "--ckpt", "y", "-o", "out"), names("generation"), afterwards=LATER
    ),
    "a strict prediction": Use(
        ("predict", "x.jpg", "-o", "out", "--strict"), names("skip_unreadable"), names("as_json strict")
    ),
    "a training": Use(
        ("train", "--data", "x", "--model", "d1", "--out", "o"),
        ELSEWHERE | {"local_norms"},
        names("as_json record"),
    ),
    "a training on a file's images": Use(
        ("train", *FILE, "--model", "d1", "--out", "o", "--hold-out", "0.1"),
        names("data split eval_split local_norms"),
        names("as_json record"),
    ),
    "a training without evaluation": Use(
        ("train", "--data", "x", "--model", "d1", "--out", "o", "--eval-split", "none"),
        ELSEWHERE | names("eval_every local_norms hold_out"),
        names("as_json record"),
    ),
    "a training with frozen norms": Use(
        ("train", "--data", "x", "--model", "d1", "--out", "o", "--frozen-norms"),
        ELSEWHERE | {"local_norms"},
        names("as_json record frozen_norms"),
    ),
    "a fine-tuning": Use(("finetune", "x", "--from", "d1", "-o", "o"), ELSEWHERE | {"model"}, names("as_json record")),
    "a fine-tuning on a file's images": Use(
        ("finetune", *FILE, "--from", "d1", "-o", "o", "--hold-out", "0.1"),
        names("model split eval_split"),
        names("as_json record"),
    ),
    "a fine-tuning without evaluation": Use(
        ("finetune", "x", "--from", "d1", "-o", "o", "--eval-split", "none"),
        ELSEWHERE | names("model eval_every hold_out"),
        names("as_json record"),
    ),
    "a verification": Use(("verify", "--model", "d1")),
    "a verification of a checkpoint": Use(("verify", "--model", "d1", "--ckpt", "x"), names("generation")),
    "a recording": Use(("trace", "--model", "d1", "-o", "t.npz")),
    "a recording of a checkpoint": Use(("trace", "--model", "d1", "--ckpt", "x", "-o", "t.npz"), names("generation")),
    "a recording of a file": Use(
        ("trace", "--model", "d1", "--reference", "x.pb", "-o", "t.npz"),
        names("weights"),
    ),
    "ablations": Use(
        ("ablate", *CHANGES, "--ckpt", "x", "--coco", "y"), names("listing"), afterwards=names("as_json report")
    ),
    "all ablations": Use(
        ("ablate", "--all", "--ckpt", "x", "--coco", "y"),
        names("listing combine waterfall"),
        names("as_json report everything"),
    ),
    "ablations of the embedded detector": Use(
        ("ablate", *CHANGES), names("listing model"), afterwards=names("as_json report")
    ),
    "a waterfall": Use(
        ("ablate", *CHANGES, "--waterfall", "--ckpt", "x", "--coco", "y"),
        names("listing everything combine seed resamples resume report"),
        names("as_json waterfall"),
    ),
    "a list of ablations": Use(
        ("ablate", "--list"), frozenset(options_of(main.commands["ablate"])) - {"listing"}, names("listing")
    ),
}
MEASURED = {  # benchmarks, by the function that measures
    "convert": (conversion, "measure_conversion"),
    "parity": (layerwise, "measure_comparison"),
    "coco": (coco, "measure_metrics_engines"),
    "input --images x": (input_contest, "measure_input"),
    "nms": (nms, "measure_nms"),
    "eval --coco x": (evaluation, "measure_evaluation"),
    "ablation --coco x": (ablation, "measure_ablation"),
    "inference": (inference, "measure_inference"),
    "training": (training, "measure_training"),
    "predict --images x": (predict_contest, "measure_predict"),
    "roofline": (roofline, "measure_roofline"),
    "runs --coco x": (runs, "measure_runs"),
}
USES |= {f"bench {words}": Use(("bench", *words.split()), afterwards=names("as_json record")) for words in MEASURED}
USES |= {"drawn shapes": Use(("shapes", "-o", "x"))}
USES |= {"a dataset's check": Use(("check", "x"), afterwards=names("as_json report write_config"))}
VALUES = {"report": "x.html", "output": "other.npz", "write_config": "x.json"}


class ReachedError(EffconvError):
    """Raised in place of the work, with all it was called with."""


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    threads: list[int] = []

    def reached(*arguments: Any, **more: Any) -> None:
        plain = [each for each in [*arguments, *more.values()] if not callable(each)]
        fetched = [each("d1") for each in arguments if getattr(each, "__name__", "") in ("fetch", "<lambda>")][:1]
        raise ReachedError(re.sub(r"tmp\w+", "", repr((plain, fetched, threads))))

    for module, name in (
        (evaluate, "evaluate_model"),
        (evaluate, "evaluate_detections"),
        (predict, "predict_images"),
        (train, "train"),
        (verify, "verify"),
        (recording, "record"),
        (ablation_run, "run_study"),
        (ablation_run, "split_gap"),
        (shapes, "write_shapes"),
        (check, "check_dataset"),
        *MEASURED.values(),
    ):
        monkeypatch.setattr(module, name, reached)
    for command in (evaluating, finetuning, predicting, tracing, verifying):
        monkeypatch.setattr(command, "fetch_release", lambda *asked: asked)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(subject, "choose_subject", lambda choice, fetch: (choice, fetch("d1")))
    monkeypatch.setattr(subject, "choose_trace", lambda *chosen: chosen)
    monkeypatch.setattr(ablation_study, "official_setup", lambda study: study)
    monkeypatch.setattr(registry, "fitting", lambda setup: [*registry.ABLATIONS.values()])
    monkeypatch.setattr(embedded, "write_held_out", lambda *_: None)


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


def options(words: tuple[str, ...]) -> dict[str, click.Option]:
    command = main.commands[words[0]]
    return options_of(command.commands[words[1]] if isinstance(command, click.Group) else command)


def cases() -> list[tuple[str, str]]:
    return [(use, option) for use, (words, *_) in USES.items() for option in options(words)]


@pytest.mark.parametrize(("use", "name"), cases())
def test_every_option_is_used_or_refused(use: str, name: str) -> None:
    words, refused, afterwards = USES[use]
    option = options(words)[name]
    plain = run(*words)
    status, found = run(*words, *given(option, **VALUES))
    if name in refused:
        assert status == 2
        assert re.search(r"not used by .*; leave (it|them) out$|: choose one; ", found)
        assert given(option, **VALUES)[0] in found
        assert len(found.splitlines()) == 1
    elif name in afterwards or name == "force":  # what is in the way of an output, if anything is
        assert (status, found) == plain
    else:
        assert found != plain[1]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_beside_the_list_or_alone_together_is_refused(change: str) -> None:
    assert run("ablate", "--list", change) == (2, f"effconv: {change}: not used by --list; leave it out\n")
    refused = "effconv: --combine: not used by fewer than two named changes; leave it out\n"
    assert run("ablate", change, "--combine") == (2, refused)


@pytest.mark.parametrize("words", [("tf2torch", "--model", "d0"), ("export", "onnx", "--model", "d0")])
def test_a_generation_is_of_what_is_downloaded(words: tuple[str, ...]) -> None:
    status, found = run(*words, "--ckpt", "x", "--generation", "coco")
    assert (status, found.count("\n")) == (2, 1)
    assert found.startswith("effconv: --generation and --ckpt: choose one; ")


def test_scoring_detections_reads_what_its_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of options is the truth about the function: it reads these fields of its request and no other."""
    monkeypatch.undo()
    read = set()

    class Asked:
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return None

    stand_in = types.SimpleNamespace(images=[])
    monkeypatch.setattr(evaluate, "read_dataset", lambda *_: stand_in)
    monkeypatch.setattr(evaluate, "examine", lambda *_: types.SimpleNamespace(warn=list, record=dict))
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: stand_in)
    monkeypatch.setattr(evaluate, "read_detections", lambda *_: [])
    monkeypatch.setattr(evaluate, "_record", lambda *_: {})
    evaluate.evaluate_detections(Asked(), Path("detections.json"), "")  # type: ignore[arg-type]
    assert read == SCORING - {"annotations", "images", "results", "against", "as_json"}


def test_norms_of_each_process_are_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    words = USES["a training"].words
    assert "--local-norms: not used by one process, " in run(*words, "--local-norms")[1]
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = run(*words, "--local-norms")[1]
    assert "local_norms=True" in found
    assert "not used by" not in found


def test_a_generation_needs_a_model() -> None:
    assert "--generation: name the model" in run("trace", "--generation", "coco", "-o", "t.npz")[1]
