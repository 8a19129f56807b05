"""Contestants of the benchmarks beside TensorFlow that do less or other work: refused before a time is taken."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from refused_contests import refused, take_no_time
from torch import Tensor

from effconv.parity.benchmarks import evaluation as evaluation_benchmark
from effconv.parity.benchmarks import input as input_benchmark
from effconv.parity.benchmarks import nms as nms_benchmark
from effconv.parity.benchmarks.contest import over
from effconv.parity.reference import graphs as official_graphs
from small_images import write_pictures

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 3)


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    take_no_time(monkeypatch)


# --- inputs ------------------------------------------------------------------------------------------------------


def inputs_changed(change: Callable[[Any], Any]) -> Any:
    return lambda made: lambda encoded, **rest: change(made(encoded, **rest))


INPUTS: dict[str, tuple[str, Any]] = {
    "ours: zeros": ("Preprocessor", inputs_changed(lambda found: (found[0] * 0, found[1]))),
    "ours: one unit of one value": (
        "Preprocessor",
        inputs_changed(lambda found: (np.where(found[0] == found[0].max(), found[0] * 1.0000002, found[0]), found[1])),
    ),
    "theirs: a smaller image": ("compiled_input", inputs_changed(lambda found: (found[0][::2, ::2], found[1]))),
    "theirs: decoding of half of an image": ("compiled_decode", inputs_changed(lambda found: found[::2])),
    "Pillow: zeros": ("decode_with_pillow", inputs_changed(lambda found: found * 0)),
    "Pillow: colours in another order": ("decode_with_pillow", inputs_changed(lambda found: found[..., ::-1])),
    "Pillow: half of an image": ("decode_with_pillow", inputs_changed(lambda found: found[: len(found) // 2])),
}


@pytest.mark.tf
@pytest.mark.parametrize("wrong", INPUTS)
def test_bench_input_refuses(wrong: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, change = INPUTS[wrong]
    official = getattr(input_benchmark, place)
    if place == "decode_with_pillow":
        monkeypatch.setattr(input_benchmark, place, change(official))
    else:
        monkeypatch.setattr(input_benchmark, place, lambda *given: change(official(*given)))
    refused("input", "--images", pictures / "val2017", "--model", SWISH / "config.json")


def test_every_image_is_part_of_a_turn() -> None:
    seen: list[bytes] = []
    over([b"a", b"b", b"c"], seen.append)()
    assert seen == [b"a", b"b", b"c"]


# --- suppression -------------------------------------------------------------------------------------------------


def chosen_of_half(boxes: Tensor, scores: Tensor, *rest: Any) -> Tensor:
    official: Tensor = HARD_IN_STEP(boxes[::2], scores[::2], rest[0][::2], *rest[1:]) * 2
    return official


HARD_IN_STEP = nms_benchmark.hard_in_step
SUPPRESSIONS: dict[str, tuple[str, Any]] = {
    "theirs: zeros": ("compiled_suppression", lambda made: lambda *given: [each * 0 for each in made(*given)]),
    "theirs: half of the candidates": (
        "compiled_suppression",
        lambda made: lambda *given: made(*(column[::2] for column in given)),
    ),
    "theirs: fewer classes": ("compiled_suppression", None),
    "plain: half of the candidates": ("hard_in_step", chosen_of_half),
    "plain: classes suppress each other": (
        "hard_in_step",
        lambda boxes, scores, classes, *rest: HARD_IN_STEP(boxes, scores, classes * 0, *rest),
    ),
    "plain: nothing is suppressed": ("hard_in_step", lambda boxes, scores, *rest: torch.arange(100)),
    "plain: detections dropped": ("hard_in_step", lambda *given: HARD_IN_STEP(*given)[:90]),
}


@pytest.mark.tf
@pytest.mark.parametrize("wrong", SUPPRESSIONS)
def test_bench_nms_refuses(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, change = SUPPRESSIONS[wrong]
    official = getattr(nms_benchmark, place)
    if place == "hard_in_step":
        monkeypatch.setattr(nms_benchmark, place, change)
    elif change:
        monkeypatch.setattr(nms_benchmark, place, lambda classes: change(official(classes)))
    else:
        monkeypatch.setattr(nms_benchmark, place, lambda classes: official(classes - 2))
    refused("nms", "--candidates", 400, "--classes", 5)


@pytest.mark.parametrize(
    ("wrong", "change"),
    [
        ("classes suppress each other", lambda b, s, c, o: HARD_IN_STEP(b, s, c * 0, o, 100)),
        ("half of the candidates", lambda b, s, c, o: HARD_IN_STEP(b[::2], s[::2], c[::2], o, 100) * 2),
        ("no suppression", lambda b, s, c, o: torch.arange(100)),
    ],
)
@pytest.mark.tf
def test_a_torchvision_that_does_less_is_refused(wrong: str, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nms_benchmark, "torchvision_nms", lambda: (change, None))
    assert "torchvision, hard" in refused("nms", "--candidates", 400, "--classes", 5)


# --- from images to detections ------------------------------------------------------------------------------------


def listed(change: Callable[..., Any]) -> Any:
    """TensorFlow's pipeline with its three columns changed."""
    return lambda make: lambda *given: (lambda detect: lambda encoded: change(*detect(encoded)))(make(*given))


def of_other_weights(make: Any) -> Any:
    def planted(config: Any, variables: Any) -> Any:
        random = np.random.default_rng(0)
        return make(
            config, {name: random.permutation(value.ravel()).reshape(value.shape) for name, value in variables.items()}
        )

    return planted


def of_a_smaller_image(make: Any) -> Any:
    return lambda config, variables: make(dataclasses.replace(config, image_size=(64, 64)), variables)


PIPELINES: dict[str, tuple[str, Any]] = {
    "zeros": ("compiled_pipeline", listed(lambda *columns: [each * 0 for each in columns])),
    "half of the detections": ("compiled_pipeline", listed(lambda *columns: [each[::2] for each in columns])),
    "boxes a pixel off": ("compiled_pipeline", listed(lambda boxes, *rest: (boxes + 1, *rest))),
    "other weights": ("compiled_pipeline", of_other_weights),
    "a smaller image": ("compiled_pipeline", of_a_smaller_image),
    "a network of other weights": ("compiled_network", of_other_weights),
}


@pytest.mark.tf
@pytest.mark.parametrize("wrong", PIPELINES)
def test_bench_eval_refuses(wrong: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_benchmark, "sys", SimpleNamespace(modules={}))  # it wants a fresh process
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    place, plant = PIPELINES[wrong]
    monkeypatch.setattr(official_graphs, place, plant(getattr(official_graphs, place)))
    options = ("--model", SWISH / "config.json", "--ckpt", SWISH, "--limit", 1)
    expected = "TensorFlow, network alone:" if place == "compiled_network" else "TensorFlow:"
    assert expected in refused("eval", "--coco", pictures, *options)
