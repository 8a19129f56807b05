"""Post-processing against recorded runs of the official code, bit for bit, and on cases worked out by hand."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.postprocessing import postprocess
from effconv.effdet_torch.postprocessing.anchors import feature_sizes, legacy_anchors, official_anchors
from effconv.effdet_torch.postprocessing.candidates import Selection, TopPairs, all_pairs
from effconv.effdet_torch.postprocessing.detections import Detections, coco_rows
from effconv.effdet_torch.postprocessing.nms import AcrossClasses, Combined, PerClass
from effconv.effdet_torch.postprocessing.postprocess import (
    MORE,
    PostprocessError,
    Postprocessor,
    across_classes,
    clip_boxes,
    combined,
    per_class,
    unclipped,
)
from effconv.effdet_torch.postprocessing.suppression import Gaussian, Hard, choose_batched
from recorded_detections import RECORDS, Record, with_choose

TINY = dataclasses.replace(get_config("d0"), image_size=(64, 96), num_classes=3, min_level=4, max_level=6)


@pytest.fixture(scope="module", params=RECORDS)
def record(request: pytest.FixtureRequest, shared: Path) -> Record:
    return Record(shared, request.param)


def assert_equal(ours: Detections, record: Record, run: str) -> None:
    """Every row: boxes and scores to the bit, categories and counts."""
    theirs = [record.arrays[f"{run}/{key}"] for key in ("boxes", "scores", "classes", "valid_len")]
    for name, mine, official in zip(Detections._fields, ours, theirs, strict=True):
        assert np.array_equal(mine.numpy(), official), f"{record.name} {run}: {name}"


def outputs_of(boxes: dict[int, tuple[int, float]], level_values: float = -20.0) -> tuple[list[Tensor], list[Tensor]]:
    """TINY's outputs, one image: zero box codes, logits of -20 but for {anchor: (class, logit)}."""
    sizes, anchors, classes = feature_sizes(TINY), TINY.num_anchors, TINY.num_classes
    logits = torch.full((sum(h * w for h, w in sizes) * anchors, classes), level_values)
    for anchor, (label, logit) in boxes.items():
        logits[anchor, label] = logit
    levels, start = [], 0
    for height, width in sizes:
        count = height * width * anchors
        rows = logits[start : start + count].reshape(1, height, width, anchors * classes)
        levels.append(rows.permute(0, 3, 1, 2))
        start += count
    return levels, [torch.zeros(1, anchors * 4, *size) for size in sizes]


@pytest.mark.shared
def test_every_recorded_run_is_reproduced_bit_for_bit(record: Record) -> None:
    runs = [run for run in record.runs if not run.startswith("gendet_")]
    assert len(runs) == 13
    outputs = record.outputs() if record.whole else None
    compared = 0
    for run in runs:
        settings = record.runs[run]
        postprocessor = record.postprocessor(run)
        scales = record.scales  # the combined run's boxes are scaled too, though its settings do not say so
        if outputs is not None:
            ours = postprocessor(*outputs, scales)
        elif settings["nms_configs"]["max_nms_inputs"]:
            ours = postprocessor.nms(record.candidates_as_run(run))
            boxes = postprocessor.clip(ours.boxes, record.config.image_size)
            ours = ours._replace(boxes=boxes).scaled(scales)
        else:
            continue  # D0's logits are recorded for the 5000 candidates only
        assert_equal(ours, record, run)
        compared += 1
    assert compared == (13 if record.whole else 5)


@pytest.mark.shared
def test_coco_rows_are_those_of_every_recorded_run(record: Record) -> None:
    if not record.whole:
        pytest.skip("its logits are recorded in part")
    outputs = record.outputs()
    runs = [run for run in record.runs if run.startswith("gendet_")]
    assert len(runs) == 8
    for run in runs:
        ours = record.postprocessor(run)(*outputs, record.scales)
        if record.runs[run]["kwargs"].get("flip"):
            ours = ours.mirrored(record.scales * record.config.image_size[1])
        theirs = record.arrays[f"{run}/xywh"]
        assert np.array_equal(coco_rows(ours, record.image_ids), theirs), f"{record.name} {run}"


@pytest.mark.shared
@pytest.mark.parametrize("run", ["perclass_gaussian_in5000", "global_gaussian_in5000", "perclass_hard_in5000"])
def test_batched_suppression_finds_the_same_objects(record: Record, run: str) -> None:
    nms = with_choose(record.postprocessor(run), choose_batched).nms
    ours = nms(record.candidates_as_run(run))
    assert np.array_equal(ours.valid.numpy(), record.arrays[f"{run}/valid_len"])
    assert np.array_equal(ours.classes.numpy(), record.arrays[f"{run}/classes"])
    theirs = record.arrays[f"{run}/scores"]
    # A row's score is a product with one decay per earlier row at most, multiplied in two orders: every product is
    # rounded by half an ulp on either side, which may be two of the result's. Most decays are 1; 9 ulp is the largest.
    apart = np.abs(ours.scores.numpy().view(np.int32) - theirs.view(np.int32))
    assert (apart <= (0 if "hard" in run else 2 * np.arange(apart.shape[1]))).all()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("trap", "run"),
    [
        ("boxes as xyxy", "perclass_gaussian_in5000"),
        ("size codes clamped", "perclass_gaussian_in5000"),
        ("legacy anchors", "perclass_gaussian_in5000"),
        ("classes compete", "perclass_gaussian_in5000"),
        ("best class only", "perclass_gaussian_in5000"),
        ("sigma not halved", "perclass_gaussian_in5000"),
        ("hard instead of soft", "perclass_gaussian_in5000"),
        ("torch's sigmoid", "perclass_gaussian_in5000"),
        ("clipped", "perclass_gaussian_in5000"),
        ("not clipped", "global_gaussian_in0"),
        ("clipped after scaling", "global_gaussian_in0"),
    ],
)
def test_a_known_mistake_is_seen(shared: Path, trap: str, run: str) -> None:
    record = Record(shared, "synth_small")
    right = record.postprocessor(run)
    changes = {
        "boxes as xyxy": {"decode": lambda codes, anchors: right.decode(codes, anchors)[..., [1, 0, 3, 2]]},
        # SSD-style: exp(code) limited; 1.0 here, because the recorded codes are small.
        "size codes clamped": {"decode": lambda codes, anchors: right.decode(codes.clamp(max=1.0), anchors)},
        "legacy anchors": {"anchors": legacy_anchors},
        "classes compete": {"nms": across_classes(record.config).nms},
        "best class only": {"candidates": across_classes(record.config).candidates},
        "sigma not halved": {"nms": PerClass(Gaussian(sigma=1.0))},
        "hard instead of soft": {"nms": PerClass(Hard())},
        "torch's sigmoid": {"sigmoid": torch.sigmoid},
        "clipped": {"clip": clip_boxes},
        "not clipped": {"clip": unclipped},
        "clipped after scaling": {"clip": unclipped},
    }
    outputs = record.outputs()
    assert_equal(right(*outputs, record.scales), record, run)
    wrong = dataclasses.replace(right, **changes[trap])(*outputs, record.scales)
    if trap == "clipped after scaling":
        wrong = wrong._replace(boxes=clip_boxes(wrong.boxes, record.config.image_size))
    with pytest.raises(AssertionError):
        assert_equal(wrong, record, run)


def test_a_single_object_is_found_where_its_anchor_is() -> None:
    anchors = official_anchors(TINY)
    ours = per_class(TINY, max_outputs=3)(*outputs_of({40: (1, 3.0)}), torch.tensor([2.0]))
    assert ours.valid.tolist() == [1]
    # Centre and size of an anchor, rounded: within 1e-4 of a pixel.
    assert torch.allclose(ours.boxes[0], torch.stack([anchors[40] * 2, torch.zeros(4), torch.zeros(4)]), atol=1e-4)
    assert ours.classes.tolist() == [[2, 0, 0]]  # class 1 is category 2; padding has category 0
    assert ours.scores[0, 0].item() == pytest.approx(1 / (1 + np.exp(-3.0)), rel=3e-7)
    assert ours.scores[0, 1:].tolist() == [0.0, 0.0]


def test_classes_compete_across_and_not_within() -> None:
    outputs = outputs_of({40: (1, 3.0), 41: (0, 2.0)})
    hard = Hard(iou_threshold=0.1, score_threshold=0.5)  # anchors of one position overlap by a half
    assert per_class(TINY, hard)(*outputs).classes[0, :2].tolist() == [2, 1]
    assert across_classes(TINY, hard)(*outputs).valid.tolist() == [1]


def test_clipping_is_to_the_input_and_before_scaling() -> None:
    edge = len(official_anchors(TINY)) - 9 * 2 + 4  # the largest level's last row: reaches beyond every side
    outputs, scale = outputs_of({edge: (1, 3.0)}), torch.tensor([3.0])
    for make in (across_classes, combined):
        assert make(TINY)(*outputs, scale).boxes[0, 0].tolist() == [0.0, 0.0, 64.0 * 3, 96.0 * 3]
    kept = per_class(TINY)(*outputs, scale).boxes[0, 0]
    assert torch.allclose(kept, official_anchors(TINY)[edge] * 3, atol=1e-3)
    assert kept.min() < 0


def test_padding_of_each_kind() -> None:
    outputs = outputs_of({40: (1, 3.0), 0: (2, -3.0)})
    anchors = clip_boxes(official_anchors(TINY), TINY.image_size)
    over = across_classes(TINY, Gaussian(score_threshold=0.1), max_outputs=3)(*outputs)
    assert over.valid.tolist() == [1]
    assert over.classes.tolist() == [[2, 3, 3]]  # padded with anchor 0, whose best class is 2
    assert torch.allclose(over.boxes[0], anchors[[40, 0, 0]], atol=1e-4)
    assert over.scores[0, 1:].tolist() == [0.0, 0.0]
    both = combined(TINY, score_threshold=0.1, max_outputs=3)(*outputs)
    assert (both.valid.tolist(), both.classes.tolist()) == ([1], [[2, 1, 1]])
    assert torch.allclose(both.boxes[0], torch.stack([anchors[40], torch.zeros(4), torch.zeros(4)]), atol=1e-4)


def test_nothing_survives() -> None:
    outputs = outputs_of({})
    ours = per_class(TINY)(*outputs)
    assert ours.valid.tolist() == [0]
    assert not ours.boxes.any()
    assert not ours.scores.any()
    assert not ours.classes.any()


def test_an_empty_batch_and_more_rows_than_candidates() -> None:
    logits, codes = outputs_of({40: (1, 3.0)})
    empty = per_class(TINY)([level[:0] for level in logits], [level[:0] for level in codes])
    assert [tuple(column.shape) for column in empty] == [(0, 100, 4), (0, 100), (0, 100), (0,)]
    hard = per_class(TINY, Hard(iou_threshold=1.0), max_outputs=6000)(logits, codes)  # 1134 pairs there are
    total = len(official_anchors(TINY)) * TINY.num_classes
    assert 0 < hard.valid.item() <= min(total, 5000)


@pytest.mark.parametrize("make", [per_class, across_classes, combined])
def test_an_image_has_at_most_100_detections_by_default(make: Callable[..., Postprocessor]) -> None:
    """As in COCO: of more candidates that survive, 100, and none is padding."""
    suppression = {} if make is combined else {"suppression": Hard(iou_threshold=1.0)}
    ours = make(TINY, **suppression)(*outputs_of({}, level_values=0.0))
    assert ours.scores.shape == (1, 100)
    assert ours.valid.tolist() == [100]
    assert [kind().max_outputs for kind in (PerClass, AcrossClasses, Combined)] == [100] * 3


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    first, second = outputs_of({40: (1, 3.0), 41: (1, 2.0)}), outputs_of({90: (0, 1.0)})
    batch = tuple([torch.cat(pair) for pair in zip(*lists, strict=True)] for lists in zip(first, second, strict=True))
    together = per_class(TINY)(*batch)
    for image, alone in enumerate((first, second)):
        for mine, column in zip(per_class(TINY)(*alone), together, strict=True):
            assert torch.equal(mine[0], column[image])


@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf])
@pytest.mark.parametrize("make", [per_class, across_classes, combined])
def test_nan_and_infinity_are_refused(value: float, make: type[Postprocessor]) -> None:
    logits, codes = outputs_of({40: (1, 3.0)})
    logits[1] = logits[1].clone()
    logits[1][0, 5, 0, 0] = torch.tensor(0.0).copysign(torch.tensor(value)) / 0 if np.isnan(value) else value
    with pytest.raises(PostprocessError, match="class logits of image 0 of the batch hold NaN or infinity"):
        make(TINY)(logits, codes)
    logits, codes = outputs_of({40: (1, 3.0)})
    codes[0] = codes[0] + value
    with pytest.raises(PostprocessError, match="box codes of image 0"):
        make(TINY)(logits, codes)


def test_minus_infinity_is_a_score_of_zero() -> None:
    logits, codes = outputs_of({40: (1, 3.0)}, level_values=-torch.inf)
    ours = per_class(TINY, Hard(score_threshold=0.0))(logits, codes)
    assert ours.valid.tolist() == [1]


def test_outputs_of_another_size_are_refused() -> None:
    logits, codes = outputs_of({})
    other = dataclasses.replace(TINY, image_size=(64, 64))
    with pytest.raises(PostprocessError, match=r"class logits are .* expected .* at 64 x 64: set the config's"):
        per_class(other)(logits, codes)
    with pytest.raises(PostprocessError, match="box codes are"):
        per_class(TINY)(logits, codes[:-1])


def test_an_exported_graph_finds_the_same() -> None:
    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.postprocessor = with_choose(per_class(TINY, max_outputs=4), choose_batched)

        def forward(self, logits: list[Tensor], codes: list[Tensor]) -> tuple[Tensor, ...]:
            return tuple(self.postprocessor(logits, codes))

    outputs = outputs_of({40: (1, 3.0), 41: (1, 2.0), 90: (0, 1.0)})
    exported = torch.export.export(Module(), outputs_of({3: (0, 0.0)})).module()(*outputs)
    for mine, eager in zip(exported, per_class(TINY, max_outputs=4)(*outputs), strict=True):
        assert torch.allclose(mine.double(), eager.double(), rtol=1e-6)
    assert torch.equal(exported[2], per_class(TINY, max_outputs=4)(*outputs).classes)


@pytest.mark.parametrize("first", [1, 60, 300, 5000])
@pytest.mark.parametrize(("threshold", "most"), [(-np.inf, 5), (-np.inf, 100), (0.6, 100), (0.99, 5)])
@pytest.mark.parametrize("values", [3, 12, 100000])
def test_combined_suppression_of_the_highest_pairs_is_that_of_all(
    first: int, threshold: float, most: int, values: int
) -> None:
    """Few values: ties, also where the highest pairs end, and between scores whose logits differ."""
    random = np.random.default_rng(values)
    sizes, channels = feature_sizes(TINY), TINY.num_anchors * TINY.num_classes
    logits = [
        torch.from_numpy((random.integers(0, values, (2, channels, *size)) * 40 / values).astype(np.float32) - 18)
        for size in sizes
    ]
    codes = [torch.from_numpy(random.standard_normal((2, 36, *size)).astype(np.float32)) for size in sizes]
    quick = dataclasses.replace(combined(TINY, threshold, most), first=first)
    expected = Postprocessor(config=TINY, candidates=all_pairs, nms=Combined(threshold, most), clip=clip_boxes)
    for mine, theirs in zip(quick(logits, codes), expected(logits, codes), strict=True):
        assert torch.equal(mine, theirs)


def test_combined_suppression_takes_more_pairs_before_it_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The highest four cannot be twelve boxes that are kept."""
    asked: list[int] = []

    class Counted(TopPairs):
        def __call__(self, logits: Tensor) -> Selection:
            asked.append(self.count)
            return super().__call__(logits)

        def of_levels(self, levels: Sequence[Tensor], classes: int) -> None:
            return None

    monkeypatch.setattr(postprocess, "TopPairs", Counted)
    random = np.random.default_rng(0)
    sizes, channels = feature_sizes(TINY), TINY.num_anchors * TINY.num_classes
    logits = [torch.from_numpy(random.standard_normal((1, channels, *size)).astype(np.float32)) for size in sizes]
    codes = [torch.zeros(1, TINY.num_anchors * 4, *size) for size in sizes]
    expected = Postprocessor(config=TINY, candidates=all_pairs, nms=Combined(-np.inf, 12), clip=clip_boxes)
    quick = dataclasses.replace(combined(TINY, max_outputs=12), first=4)
    for mine, theirs in zip(quick(logits, codes), expected(logits, codes), strict=True):
        assert torch.equal(mine, theirs)
    assert asked == [4, 4 * MORE]
