"""Contestants that do less or other work than ours: every benchmark refuses them before it takes a time."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refused_contests import REFUSED, refused, take_no_time
from torch import Tensor, nn

from effconv.effdet_torch.model import EfficientDet
from effconv.errors import EffconvError
from effconv.parity.benchmarks import inference as inference_benchmark
from effconv.parity.benchmarks import predict as predict_benchmark
from effconv.parity.benchmarks.equal_work import (
    may_differ,
    require_detections,
    require_equal,
    require_outputs,
    require_pixels,
    work_of,
)
from effconv.parity.benchmarks.input import PILLOW_LEVELS
from small_images import write_pictures
from tiny_models import load_tiny

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 3)


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    take_no_time(monkeypatch)


class Changed(nn.Module):
    """The outputs of a network, changed afterwards; or of changed images."""

    def __init__(self, network: Any, change: Callable[[Any, Any], Any]):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.network, images)


def times(factor: Callable[[Tensor], Tensor]) -> Callable[[Any, Any], Any]:
    return lambda network, images: tuple([factor(level) for level in kind] for kind in network(images))


def half_of_the_batch(network: Any, images: Tensor) -> Any:
    found = network(images[: (len(images) + 1) // 2])
    return tuple([torch.cat([level, level])[: len(images)] for level in kind] for kind in found)


def smaller(network: Any, images: Tensor) -> Any:
    half = network(nn.functional.interpolate(images, scale_factor=0.5))
    return tuple([nn.functional.interpolate(level, scale_factor=2.0) for level in kind] for kind in half)


def in_bfloat16(network: Any, images: Tensor) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return tuple([level.float() for level in kind] for kind in network(images))


def other_weights(network: Any, images: Tensor) -> Any:
    torch.manual_seed(1)
    return EfficientDet(network.config).eval()(images)


def test_zeros_are_refused_however_coarse_a_precision_is() -> None:
    model, images = load_tiny(SWISH), torch.randn(1, 3, 128, 128)
    (work,) = work_of(model, images)
    rough = [work._replace(costs=tuple(1.0 for _ in work.costs))]  # of a network that rounding upsets
    with torch.no_grad():
        outputs = model(images)
    require_outputs("rough", outputs, rough, coarser=2**16)
    with pytest.raises(EffconvError, match=r"within 5\.0e-01 of float64's"):
        require_outputs("rough", [[level * 0 for level in kind] for kind in outputs], rough, coarser=2**16)


def smaller_size(network: Any, images: Tensor) -> Any:
    return network(images[..., : images.shape[2] // 2, : images.shape[3] // 2])


NETWORKS: dict[str, Callable[[Any, Any], Any]] = {
    "zeros": times(torch.zeros_like),
    "a hundred-thousandth larger": times(lambda level: level * (1 + 1e-5)),
    "infinite": times(lambda level: level / 0),
    "half of the batch": half_of_the_batch,
    "a smaller image, outputs enlarged": smaller,
    "a smaller image": smaller_size,
    "bfloat16": in_bfloat16,
    "other weights": other_weights,
    "one level left out": lambda network, images: tuple(kind[:-1] for kind in network(images)),
}


@pytest.mark.parametrize("wrong", NETWORKS)
def test_bench_inference_refuses(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    official = inference_benchmark.contestant

    def planted(name: str, model: Any, *rest: Any) -> Any:
        return official(name, model, *rest)._replace(network=Changed(model, NETWORKS[wrong]))

    monkeypatch.setattr(inference_benchmark, "contestant", planted)
    options = ("--model", SWISH / "config.json", "--ckpt", SWISH, "--size", "64x64", "--threads", 1)
    assert "effconv: eager:" in refused("inference", *options, "--batch", 3, "--engines", "eager")


def detections_changed(change: Callable[[Tensor, Tensor, Tensor], Any]) -> Any:
    """A contestant of `bench predict` whose list is changed."""

    def wrong(official: Any, network: Any, model: Any, *rest: Any) -> Any:
        detect = official(network, model, *rest)

        def step(encoded: Sequence[bytes]) -> Any:
            found = detect(encoded)
            boxes, scores, classes = change(found.boxes, found.scores, found.classes)
            return found._replace(boxes=boxes, scores=scores, classes=classes)

        return step

    return wrong


def half_size(official: Any, network: Any, model: Any, *rest: Any) -> Any:
    small = load_tiny(SWISH)
    small.config = dataclasses.replace(model.config, image_size=(64, 64))
    return official(small, small, *rest)


def skips_images(official: Any, network: Any, model: Any, *rest: Any) -> Any:
    detect, kept = official(network, model, *rest), []

    def step(encoded: Sequence[bytes]) -> Any:
        kept.append(detect(encoded) if len(kept) % 2 == 0 else kept[-1])
        return kept[-1]

    return step


def one_image(detect: Any) -> Any:
    return lambda encoded: detect(encoded[:1])


def repeated(detect: Any) -> Any:
    return lambda encoded: detect([encoded[0] for _ in encoded])


LISTS: dict[str, Any] = {
    "zeros": detections_changed(lambda *columns: [torch.zeros_like(each) for each in columns]),
    "half of the detections": detections_changed(lambda *columns: [each[:, ::2] for each in columns]),
    "a tenth of the detections blank": detections_changed(
        lambda boxes, scores, classes: (boxes, scores * (torch.arange(scores.shape[1]) % 10 > 0), classes)
    ),
    "no detections": detections_changed(lambda *columns: [each[:, :0] for each in columns]),
    "the next class": detections_changed(lambda boxes, scores, classes: (boxes, scores, classes + 1)),
    "a smaller image": half_size,
    "every second image": skips_images,
    "other outputs": lambda official, network, model, *rest: official(Changed(model, other_weights), model, *rest),
    "one image of a batch": lambda official, network, model, *rest: one_image(official(network, model, *rest)),
    "the first image again": lambda official, network, model, *rest: repeated(official(network, model, *rest)),
}


@pytest.mark.parametrize("wrong", LISTS)
def test_bench_predict_refuses(wrong: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official = predict_benchmark._ours
    monkeypatch.setattr(predict_benchmark, "_ours", lambda *given: LISTS[wrong](official, *given))
    options = ("--images", pictures / "val2017", "--model", SWISH / "config.json", "--ckpt", SWISH)
    # The first image is looked at once more, when the engine is made.
    batches = ("--limit", 3, "--batch", 1) if wrong == "every second image" else ("--limit", 2, "--batch", 2)
    refused("predict", *options, "--engines", "eager", *batches)


class Peer(nn.Module):
    """Stands for effdet's network."""

    def __init__(self, network: Any, size: tuple[int, int]):
        super().__init__()
        self.network, self.config = network, type("Config", (), {"image_size": size})

    def forward(self, images: Tensor) -> Any:
        return self.network(images)


@pytest.mark.parametrize(
    ("wrong", "change", "size", "count", "said"),
    [
        ("nothing", None, (128, 128), 100, ""),
        ("zeros", times(torch.zeros_like), (128, 128), 100, "class outputs 0 of image 1"),
        ("other weights", other_weights, (128, 128), 100, "class outputs 0 of image 1"),
        ("a smaller image", None, (64, 64), 100, "expected images of"),
        ("fewer detections", None, (128, 128), 60, "expected 100 detections of each image of batch 1"),
    ],
)
def test_a_peer_of_bench_predict_is_refused(
    wrong: str, change: Any, size: tuple[int, int], count: int, said: str, pictures: Path
) -> None:
    model = load_tiny(SWISH)
    model.config = dataclasses.replace(model.config, image_size=(128, 128))
    peer = Peer(Changed(model, change) if change else model, size)
    images = [(pictures / "val2017" / "000.png").read_bytes()]
    steps = {"a peer": lambda encoded: torch.zeros(len(encoded), count, 6)}

    def require() -> None:
        predict_benchmark.require_network("a peer", peer, model, images)
        predict_benchmark.require_full_lists(steps, images, 1)

    if wrong == "nothing":
        require()
        return
    with pytest.raises(EffconvError, match=f"a peer: {REFUSED}.*{said}"):
        require()


# --- the checks themselves ---------------------------------------------------------------------------------------


def test_the_model_and_its_own_list_pass() -> None:
    model, images = load_tiny(SWISH), torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        require_outputs("eager", model(images), work_of(model, images))
    boxes, scores, classes = torch.rand(9, 4) * 50, torch.rand(9) + 0.1, torch.arange(9)
    assert require_detections("eager", (boxes, scores, classes), (boxes, scores, classes), 0.0) == 1


def test_rounding_never_explains_another_list() -> None:
    """However much the list moves: a limit of one half at most."""
    random = iter(range(100))
    ours = torch.zeros(9, 4), torch.ones(9), torch.full((9,), -1)
    outputs = [torch.ones(1, 1, 1, 1)], [torch.ones(1, 1, 1, 1)]
    allowed = may_differ(ours, outputs, [1e-6, 1e-6], lambda moved: (ours[0], ours[1], torch.full((9,), next(random))))
    assert allowed == 0.5
    with pytest.raises(EffconvError, match="found 9, 0% of them ours"):
        require_detections("another", (ours[0], ours[1], ours[2] - 5), ours, allowed)


def test_equal_is_bit_for_bit() -> None:
    one = np.ones(4, np.float32)
    assert require_equal("a", "input", [(one, one), (one, one)]) == 2
    with pytest.raises(EffconvError, match=r"input of number 2 equal, shape \(4,\), 25.0% of values differ"):
        require_equal("a", "input", [(one, one), (np.nextafter(one, [2, 1, 1, 1], dtype=np.float32), one)])
    pixels = np.full((2, 2, 3), 9, np.uint8)
    require_pixels("a", pixels, pixels + np.uint8(PILLOW_LEVELS), PILLOW_LEVELS)
    with pytest.raises(EffconvError, match="within 18 levels, found 19"):
        require_pixels("a", pixels, pixels + np.uint8(PILLOW_LEVELS + 1), PILLOW_LEVELS)
