"""From image bytes to detections, both pipelines: what agrees, and at which stage each planted fault is named."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.effdet_torch.anchors import official_anchors
from effconv.effdet_torch.postprocess import Postprocessor
from effconv.parity import end_to_end
from effconv.parity.end_to_end import STAGES, BothSides, compare_image, compare_images, end_to_end_record
from effconv.parity.images import drawn
from effconv.parity.official import official_variables
from effconv.parity.official_pipeline import official_anchor_boxes
from effconv.parity.pipeline import Pipeline, Settings, build
from small_images import write_pictures
from tensors import config_of
from tiny_models import load_tiny

GOLDEN = Path(__file__).parent / "golden"
pytestmark = pytest.mark.tf
TINY = ("tiny-swish", "tiny-sum8", "tiny-lite")


def both_sides(name: str) -> BothSides:
    config = config_of(GOLDEN / name)
    return BothSides(config, official_variables(GOLDEN / name, config)[0], load_tiny(GOLDEN / name))


@pytest.fixture(scope="module")
def sides() -> BothSides:
    return both_sides("tiny-swish")


@pytest.fixture
def pipeline(sides: BothSides) -> Pipeline:
    return build(sides.config, Settings())


@pytest.mark.parametrize("name", TINY)
def test_every_stage_agrees(name: str) -> None:
    sides = both_sides(name)
    images = [(f"{seed}", drawn(seed, size)) for seed, size in enumerate([(200, 300), (90, 60), (128, 160)])]
    results = compare_images(images, sides, build(sides.config, Settings()))
    record = end_to_end_record(results)
    assert record["ok"], record["verdict"]
    assert record["stages"] == dict.fromkeys(STAGES, 3)
    assert record["detections"] == record["matched"] == 300
    assert record["largest_score_gap"] < 1e-4


@pytest.mark.parametrize("name", TINY)
def test_anchors_are_made_twice_and_equal(name: str) -> None:
    config = config_of(GOLDEN / name)
    for size in (config.image_size, (257, 193), (128, 640)):
        sized = dataclasses.replace(config, image_size=size)
        assert np.array_equal(official_anchor_boxes(sized), np.asarray(official_anchors(sized)))


@pytest.mark.parametrize(
    ("settings", "stage"),
    [
        (Settings(decode="pillow"), "input"),
        (Settings(resize="antialiased"), "input"),
        (Settings(anchors="legacy"), "decoded boxes"),
        (Settings(decoder="argmax"), "decoded boxes"),
        (Settings(nms="hard"), "detections"),
        (Settings(max_detections=50), "detections"),
        (Settings(score_threshold=0.5), "detections"),
    ],
    ids=str,
)
def test_another_setting_is_named_where_it_acts(settings: Settings, stage: str, sides: BothSides) -> None:
    result = compare_image(drawn(0, (200, 300)), "drawn", sides, build(sides.config, settings))
    assert next(each.name for each in result.stages if not each.holds) == stage
    record = end_to_end_record([result])
    assert not record["ok"]
    assert record["verdict"].startswith(f"1 of 1 images differ, first {stage} of drawn: ")


def swapped(detections: Any) -> Any:
    return detections._replace(boxes=detections.boxes[..., [1, 0, 3, 2]])


FAULTS: dict[str, tuple[str, Callable[[Postprocessor], Postprocessor]]] = {
    "size codes clamped": (
        "decoded boxes",
        lambda found: dataclasses.replace(
            found, decode=lambda codes, anchors: found.decode(codes.clamp(max=0.5), anchors)
        ),
    ),
    "x before y": (
        "detections",
        lambda found: dataclasses.replace(found, nms=lambda candidates: swapped(found.nms(candidates))),
    ),
    "classes from 0": (
        "detections",
        lambda found: dataclasses.replace(
            found,
            nms=lambda candidates: (lambda each: each._replace(classes=each.classes - 1))(found.nms(candidates)),
        ),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_after_the_network_is_named_where_it_acts(fault: str, sides: BothSides, pipeline: Pipeline) -> None:
    stage, plant = FAULTS[fault]
    faulty = pipeline._replace(postprocess=plant(pipeline.postprocess))
    result = compare_image(drawn(0, (200, 300)), "drawn", sides, faulty)
    assert next(each.name for each in result.stages if not each.holds) == stage
    assert result.lists != "explained"


def test_a_wrong_weight_is_named_at_the_outputs_and_never_explained_away(pipeline: Pipeline) -> None:
    sides = both_sides("tiny-swish")
    for network in sides.ours:
        with torch.no_grad():
            network.class_head.predict.pointwise.bias.add_(0.01)
    result = compare_image(drawn(0, (200, 300)), "drawn", sides, pipeline)
    assert next(each.name for each in result.stages if not each.holds) == "raw outputs"
    assert result.lists != "explained"


@pytest.fixture
def nearly_tied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks say nearly the same of everything: which comes first is decided by the last bits."""
    official, ours = BothSides.official_outputs, BothSides.our_outputs

    def levelled(outputs: Any) -> Any:
        def level(run: Any) -> Any:
            return [each * each.dtype.type(1e-6) + 4 if place < 5 else each for place, each in enumerate(run)]

        return tuple(level(run) for run in outputs)

    def rounding(outputs: Any) -> Any:
        random = np.random.default_rng(0)
        single, double = outputs
        return [each + random.uniform(-1e-6, 1e-6, each.shape).astype(np.float32) for each in single], double

    monkeypatch.setattr(BothSides, "official_outputs", lambda self, image: levelled(official(self, image)))
    monkeypatch.setattr(BothSides, "our_outputs", lambda self, image: rounding(levelled(ours(self, image))))


def test_an_order_that_rounding_decides_is_explained_by_trial(
    nearly_tied: None, sides: BothSides, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = compare_image(drawn(0, (200, 300)), "drawn", sides, pipeline)
    assert (result.holds, result.lists) == (True, "explained")
    assert "TensorFlow's own list changes in" in result.stages[-1].verdict
    record = end_to_end_record([result])
    assert record["lists"] == {"identical": 0, "explained": 1, "unexplained": 0}
    assert record["not_identical"][0]["image"] == "drawn"
    # If its own list does not change, nothing is explained.
    monkeypatch.setattr(end_to_end, "_moved", lambda official, ours: [official] * 8)
    result = compare_image(drawn(0, (200, 300)), "drawn", sides, pipeline)
    assert (result.holds, result.lists) == (False, "unexplained")


def run(*options: str) -> Result:
    model = ["--model", str(GOLDEN / "tiny-swish" / "config.json"), "--ckpt", str(GOLDEN / "tiny-swish")]
    return CliRunner().invoke(main, ["parity", "--end-to-end", *model, *options])


def test_without_a_model_it_is_the_embedded_detector() -> None:
    result = CliRunner().invoke(main, ["parity", "--end-to-end"])
    assert result.exit_code == 0
    assert result.stdout.startswith("shapes: nothing changed on the way: 2 images, ")


def test_the_command(tmp_path: Path) -> None:
    result = run()
    assert result.exit_code == 0
    assert result.stdout.startswith("tiny-swish: nothing changed on the way: 2 images, ")
    folder = write_pictures(tmp_path, 3)
    found = json.loads(run("--coco", str(folder), "--limit", "2", "--json").stdout)
    assert (found["images"], found["ok"]) == (2, True)
    one = run("--image", str(folder / "val2017" / "001.jpg"), "--size", "256x128")
    assert one.stdout.startswith("tiny-swish: nothing changed on the way: 1 images, ")
    wrong = run("--decode", "pillow")
    assert wrong.exit_code == 1
    assert wrong.stdout.startswith("tiny-swish: 2 of 2 images differ, first input of drawn 0: ")
    assert "drawn 0: unexplained: input: " in wrong.stdout
    (folder / "val2017" / "001.jpg").write_bytes(b"no picture")
    broken = run("--image", str(folder / "val2017" / "001.jpg"))
    assert (broken.exit_code, "001.jpg: not a readable image" in broken.stderr) == (2, True)
