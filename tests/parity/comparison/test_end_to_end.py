"""From image bytes to detections, both pipelines: what agrees, and at which stage each planted fault is named."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from single_precision import plant

from effconv.cli import main
from effconv.effdet_torch.postprocessing.anchors import official_anchors
from effconv.effdet_torch.postprocessing.eigen import sigmoid
from effconv.effdet_torch.postprocessing.postprocess import Postprocessor
from effconv.parity.comparison import end_to_end, moved_outputs
from effconv.parity.comparison.end_to_end import BothSides, ImageResult, compare_image, compare_images
from effconv.parity.comparison.end_to_end_job import end_to_end as found_in
from effconv.parity.comparison.end_to_end_record import ListCounts, StageCount
from effconv.parity.comparison.end_to_end_stages import STAGES, Stage, input_stage, lists_stage
from effconv.parity.comparison.pairing import Pairing
from effconv.parity.evaluation.pipeline import Pipeline, Settings, build
from effconv.parity.reference.pipeline import official_anchor_boxes
from effconv.parity.traces.images import drawn
from effconv.parity.traces.official import official_variables
from small_images import write_pictures
from tensors import config_of
from tiny_models import load_tiny

GOLDEN = Path(__file__).parents[2] / "golden"
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


def compare(sides: BothSides, pipeline: Pipeline, *, closer: bool = True) -> ImageResult:
    """One drawn image; a stage's figure never contradicts its outcome."""
    result = compare_image(drawn(0, (200, 300)), "drawn", sides, pipeline, closer=closer)
    require_figures(result.stages)
    return result


def require_figures(stages: Sequence[Stage]) -> None:
    for stage in stages:
        assert stage.measured is None or stage.holds == (stage.measured.differs <= stage.measured.limit), stage
        assert stage.measured or not stage.holds or stage.verdict == "not looked at", stage


@pytest.mark.parametrize("name", TINY)
def test_every_stage_agrees(name: str) -> None:
    sides = both_sides(name)
    images = [(f"{seed}", drawn(seed, size)) for seed, size in enumerate([(200, 300), (90, 60), (128, 160)])]
    results = compare_images(images, sides, build(sides.config, Settings()))
    counts = [1 if name == "layers" else 3 for name in STAGES]
    record = found_in(results)
    assert record.ok, record.verdict
    assert record.stages == {name: StageCount(held=count, of=count) for name, count in zip(STAGES, counts, strict=True)}
    assert record.detections == record.matched == 300
    assert record.largest_score_gap < 1e-4


@pytest.mark.parametrize("name", TINY)
def test_anchors_are_made_twice_and_equal(name: str) -> None:
    config = config_of(GOLDEN / name)
    for size in (config.image_size, (257, 193), (128, 640)):
        sized = dataclasses.replace(config, image_size=size)
        assert np.array_equal(official_anchor_boxes(sized), np.asarray(official_anchors(sized)))


@pytest.mark.parametrize(
    ("settings", "stage"),
    [
        (Settings(image_decoder="pillow"), "input"),
        (Settings(resize="antialiased"), "input"),
        (Settings(anchors="legacy"), "decoded boxes"),
        (Settings(candidates="argmax"), "decoded boxes"),
        (Settings(nms="hard"), "detections"),
        (Settings(max_detections=50), "detections"),
        (Settings(score_threshold=0.5), "detections"),
    ],
    ids=str,
)
def test_another_setting_is_named_where_it_acts(settings: Settings, stage: str, sides: BothSides) -> None:
    result = compare(sides, build(sides.config, settings))
    assert next(each.name for each in result.stages if not each.holds) == stage
    record = found_in([result])
    assert not record.ok
    assert record.verdict.startswith(f"1 of 1 image differs, first {stage} of drawn: ")


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
    result = compare(sides, faulty)
    assert next(each.name for each in result.stages if not each.holds) == stage
    assert result.lists != "explained"


def test_a_wrong_weight_is_named_at_the_outputs_and_never_explained_away(pipeline: Pipeline) -> None:
    sides = both_sides("tiny-swish")
    bias = sides.ours.single.class_head.predict.pointwise.bias
    sides.ours.double.class_head.predict.pointwise.bias.detach().copy_(bias.detach().double() + 0.01)
    result = compare(sides, pipeline)
    assert next(each for each in result.stages if not each.holds).name == "layers"
    assert "class_outputs/3 differs in float64" in result.stages[1].verdict
    bias.detach().add_(0.01)
    again = compare(sides, pipeline, closer=False)
    assert next(each.name for each in again.stages if not each.holds) == "raw outputs"
    assert "explained" not in (result.lists, again.lists)


@pytest.mark.parametrize(
    "fault", ["zeros from all depthwise kernels", "TF32 weights of a projection", "float16 output of a batch norm"]
)
def test_a_fault_of_float32_alone_is_named_at_its_layer(fault: str, pipeline: Pipeline) -> None:
    sides = both_sides("tiny-swish")
    where = plant(sides.ours.single, fault)
    result = compare(sides, pipeline)
    stage = next(each for each in result.stages if not each.holds)
    assert (stage.name, stage.verdict.partition(":")[0]) == ("layers", where)
    assert result.lists != "explained"


def test_scores_are_those_users_get(sides: BothSides, pipeline: Pipeline) -> None:
    """The sigmoid is a step of the postprocessor that ships; each wrong one is named at the scores."""
    for wrong in (lambda x: 0.9 * sigmoid(x), lambda x: sigmoid(x.half().float()), lambda x: sigmoid(x) * (1 + 1e-6)):
        faulty = pipeline._replace(postprocess=dataclasses.replace(pipeline.postprocess, sigmoid=wrong))
        result = compare(sides, faulty)
        assert next(each.name for each in result.stages if not each.holds) == "scores"
        assert result.lists != "explained"


def test_matched_scores_belong_to_the_verdict(
    sides: BothSides, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every stage of the same outputs agrees, scores 10 % off in the final list are refused all the same."""
    right = end_to_end.pair_detections
    gaps = iter([0.05])  # of our list; in the trials TensorFlow's scores are what they are
    monkeypatch.setattr(
        end_to_end,
        "pair_detections",
        lambda *columns: (lambda each: each._replace(score_gap=next(gaps, each.score_gap)))(right(*columns)),
    )
    result = compare(sides, pipeline)
    assert [each.name for each in result.stages if not each.holds] == ["detections end to end"]
    assert "scores up to 0.05 apart, allowed" in result.stages[-1].verdict

    # Where TensorFlow's own differ nearly as much, the image tells the limit that was applied.
    gaps = iter([0.05, *[0.04] * moved_outputs.TRIALS])

    def turned(*columns: Any) -> Pairing:
        pairing = right(*columns)
        (one, other), (second, another), *rest = pairing.pairs
        return pairing._replace(pairs=[(one, another), (second, other), *rest], score_gap=next(gaps))

    monkeypatch.setattr(end_to_end, "pair_detections", turned)
    result = compare(sides, pipeline)
    assert (result.lists, result.score_limit) == ("explained", 0.08)
    assert "scores up to 0.05 apart, allowed 0.08" in result.stages[-1].verdict


def test_a_run_without_any_match_cannot_hold(sides: BothSides, pipeline: Pipeline) -> None:
    result = compare(sides, pipeline)
    nothing = result.pairing._replace(pairs=[], only_first=list(range(100)), only_second=list(range(100)))
    explained = result._replace(lists="explained", pairing=nothing)
    assert explained.holds
    record = found_in([explained])
    assert (record.ok, record.verdict) == (False, "none of 100 detections matched one to one")
    assert not found_in([]).ok


@pytest.fixture
def nearly_tied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks say nearly the same of everything: which comes first is decided by the last bits."""
    official, ours = BothSides.official_outputs, BothSides.our_outputs

    def levelled(run: Any) -> Any:
        return [each * each.dtype.type(1e-6) + 4 if place < 5 else each for place, each in enumerate(run)]

    def rounding(run: Any) -> Any:
        random = np.random.default_rng(0)
        return [each + random.uniform(-1e-6, 1e-6, each.shape).astype(np.float32) for each in run]

    monkeypatch.setattr(BothSides, "official_outputs", lambda self, image: levelled(official(self, image)))
    monkeypatch.setattr(BothSides, "our_outputs", lambda self, image: rounding(levelled(ours(self, image))))
    monkeypatch.setattr(BothSides, "look_closer", lambda self, image: Stage("layers", True, "not looked at"))


def test_an_order_that_rounding_decides_is_explained_by_trial(
    nearly_tied: None, sides: BothSides, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "expected", [1e-6] * 10)
    result = compare(sides, pipeline)
    assert (result.holds, result.lists) == (True, "explained")
    assert "TensorFlow's own list changes in" in result.stages[-1].verdict
    record = found_in([result])
    assert record.lists == ListCounts(identical=0, explained=1, unexplained=0)
    assert record.not_identical[0].image == "drawn"
    # If its own list does not change, nothing is explained.
    monkeypatch.setattr(moved_outputs, "moved", lambda official, expected: [official] * 8)
    result = compare(sides, pipeline)
    assert (result.holds, result.lists) == (False, "unexplained")


def test_more_than_rounding_moves_is_not_explained() -> None:
    """A list that lost all its objects, where TensorFlow's own loses two."""

    def lost(count: int) -> Pairing:
        return Pairing([(i, i) for i in range(100 - count)], list(range(count)), list(range(count)), 0.0, 0.0)

    outputs = [np.ones((1, 2, 2, 9), np.float32)]
    for count, lists in ((100, "unexplained"), (5, "unexplained"), (4, "explained"), (0, "identical")):
        found = moved_outputs.explanation(lost(count), 1e-6, outputs, [1e-7], lambda outputs: lost(2))
        assert found.lists == lists
        assert found.verdict.startswith(f"{100 - count} of 100 detections matched one to one")
    assert moved_outputs.explanation(lost(4), 1e-6, outputs, [1e-7], None).lists == "unexplained"


def test_the_lists_figure_is_of_what_was_judged() -> None:
    """Objects lost, scores, places: what failed, beside the limit that it was judged by."""
    whole = Pairing([(i, i) for i in range(100)], [], [], 0.0, 0.0)
    turned = Pairing([(0, 1), (1, 0)], [], [], 0.0, 0.0)
    short = Pairing([(i, i) for i in range(97)], [97, 98, 99], [97, 98], 0.0, 0.0)
    score, place, lost = (
        "of a matched object's score",
        "matched objects at another place of the list",
        "objects without a partner",
    )
    cases = [
        (whole, None, "identical", (0.0, 1e-3, score)),
        (turned._replace(score_gap=0.02), turned._replace(score_gap=0.015), "explained", (0.02, 0.03, score)),
        (turned._replace(score_gap=0.04), turned._replace(score_gap=0.015), "unexplained", (0.04, 0.03, score)),
        (whole._replace(score_gap=0.02), whole._replace(score_gap=0.015), "unexplained", (0.02, 1e-3, score)),
        (turned, whole, "unexplained", (2.0, 0.0, place)),
        (turned, None, "unexplained", (2.0, 0.0, place)),
        (short, turned, "unexplained", (5.0, 0.0, lost)),
        (short, None, "unexplained", (5.0, 0.0, lost)),
    ]
    outputs = [np.ones((1, 2, 2, 9), np.float32)]
    for pairing, moved, lists, measured in cases:
        trial = (lambda outputs, moved=moved: moved) if moved else None
        found = moved_outputs.explanation(pairing, 1e-3, outputs, [1e-7], trial)
        stage = lists_stage(pairing, found)
        require_figures([stage])
        assert (found.lists, stage.measured) == (lists, measured)
        if pairing.score_gap > 1e-3:
            assert f"allowed {found.score_limit:.2g}" in stage.verdict


def test_an_input_that_differs_by_its_scale_alone_has_no_figure() -> None:
    image = np.zeros((1, 4, 4, 3), np.float32)
    stage = input_stage(image, np.float32(1), image, np.float32(2))
    require_figures([stage])
    assert (stage.holds, stage.measured) == (False, None)


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
    assert one.stdout.startswith("tiny-swish: nothing changed on the way: 1 image, ")
    page = tmp_path / "page.html"
    wrong = run("--image-decoder", "pillow", "--report", str(page))
    assert wrong.exit_code == 1
    assert "2 of 2 images differ, first input of drawn 0: " in page.read_text()
    assert page.read_text().count("<img ") == 4
    assert wrong.stdout.startswith("tiny-swish: 2 of 2 images differ, first input of drawn 0: ")
    assert "drawn 0: unexplained: input: " in wrong.stdout
    (folder / "val2017" / "001.jpg").write_bytes(b"no picture")
    broken = run("--image", str(folder / "val2017" / "001.jpg"))
    assert (broken.exit_code, "001.jpg: not a readable image" in broken.stderr) == (2, True)


def test_other_weights_than_the_checkpoint_s_are_what_is_tested(tmp_path: Path) -> None:
    """`--candidate` once was left aside, and the checkpoint tested in its place."""
    model = load_tiny(GOLDEN / "tiny-swish")
    for weight in model.parameters():
        weight.data.zero_()
    path = tmp_path / "zeroed.pth"
    torch.save(model.state_dict(), path)
    result = run("--candidate", str(path))
    assert result.exit_code == 1
    assert "first layers of drawn 0" in result.stdout
