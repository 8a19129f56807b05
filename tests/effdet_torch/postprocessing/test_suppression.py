"""Suppression: worked out by hand, one implementation against the other, and both against TensorFlow's kernels."""

import numpy as np
import pytest
import torch
from torch import Tensor

from effconv.effdet_torch.postprocessing.nms import Candidates, Combined, PerClass
from effconv.effdet_torch.postprocessing.suppression import Gaussian, Hard, Suppression, choose_batched, choose_lazily

A = [0.0, 0.0, 10.0, 10.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # overlaps A by 0.5
FAR = [50.0, 50.0, 60.0, 60.0]
BOTH = pytest.mark.parametrize("choose", [choose_lazily, choose_batched])


def choose_one(choose, boxes: list, scores: list, groups: list, suppression: Suppression, outputs: int = 10):
    """(indices, scores) of one image's survivors."""
    columns = torch.tensor([boxes]), torch.tensor([scores]), torch.tensor([groups])
    chosen = choose(*columns, torch.arange(len(boxes))[None], suppression, outputs)
    count = int(chosen.valid)
    assert not chosen.candidates[0, count:].any()
    assert not chosen.scores[0, count:].any()
    return chosen.candidates[0, :count].tolist(), chosen.scores[0, :count].tolist()


def random_candidates(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """(count, 4) boxes and (count,) scores with what is hard: ties, identical, empty, turned and touching boxes."""
    random = np.random.default_rng(seed)
    corner = random.integers(0, 60, (count, 2)) if seed % 2 else random.random((count, 2)) * 60
    boxes = np.concatenate([corner, corner + random.integers(0, 30, (count, 2))], axis=1).astype(np.float32)
    boxes[::7] = boxes[0]  # identical
    boxes[1::11, 2:] = boxes[1::11, :2]  # no area
    boxes[2::13] = boxes[2::13][:, [2, 3, 0, 1]]  # corners the other way round
    scores = random.random(count).astype(np.float32)
    if seed % 3:
        scores = (np.round(scores * 8) / 8).astype(np.float32)  # ties, zeros and ones
    return torch.from_numpy(boxes), torch.from_numpy(scores)


@BOTH
def test_hard_by_hand(choose) -> None:
    boxes, scores = [HALF, A, FAR], [0.8, 0.9, 0.1]
    assert choose_one(choose, boxes, scores, [0, 0, 0], Hard(0.4))[0] == [1, 2]
    assert choose_one(choose, boxes, scores, [0, 0, 0], Hard(0.5))[0] == [1, 0, 2]  # an overlap of just that stays
    assert choose_one(choose, boxes, scores, [0, 1, 0], Hard(0.4))[0] == [1, 0, 2]  # other groups do not compete
    assert choose_one(choose, boxes, scores, [0, 0, 0], Hard(0.5, score_threshold=0.1))[0] == [1, 0]  # 0.1 itself goes


@BOTH
def test_soft_by_hand(choose) -> None:
    indices, scores = choose_one(choose, [HALF, A, FAR], [0.8, 0.9, 0.1], [0, 0, 0], Gaussian(0.5))
    assert indices == [1, 0, 2]
    # The paper's exp(-iou**2 / sigma), 0.25 / 0.5 here; TensorFlow's own sigma is half of it.
    assert scores == pytest.approx([0.9, 0.8 * np.exp(-0.5), 0.1], rel=1e-6)
    assert choose_one(choose, [HALF, A], [0.8, 0.9], [0, 0], Gaussian(0.5, score_threshold=0.5))[0] == [1]
    assert choose_one(choose, [HALF, A], [0.8, 0.9], [0, 1], Gaussian(0.5))[1] == pytest.approx([0.9, 0.8])


@BOTH
def test_a_score_that_falls_to_the_threshold_goes(choose) -> None:
    low = choose_one(choose, [HALF, A], [0.8, 0.9], [0, 0], Gaussian(0.5))[1][1]
    for threshold, left in ((np.nextafter(np.float32(low), np.float32(0)), 2), (low, 1)):
        assert len(choose_one(choose, [HALF, A], [0.8, 0.9], [0, 0], Gaussian(0.5, float(threshold)))[0]) == left


def test_decay_is_multiplied_in_tensorflows_order() -> None:
    # An overlap of 31 / 210 and sigma 0.3: factor times overlap, rounded, times overlap. Its square first is 1 ulp off.
    boxes = [A, [0.0, 0.0, 10.0, float(np.float32(31 / 21))]]
    scores = choose_one(choose_lazily, boxes, [0.9, 0.8], [0, 0], Gaussian(0.3))[1]
    assert scores[1] == float.fromhex("0x1.7ce704p-1")


def test_an_infinite_box_overlaps_by_nan() -> None:
    endless = [0.0, 0.0, np.inf, 10.0]
    # TensorFlow's hard suppression takes the score away but not the box, its soft one drops it.
    assert choose_one(choose_lazily, [endless, endless], [0.9, 0.8], [0, 0], Hard()) == (
        [0, 1],
        [pytest.approx(0.9), 0.0],
    )
    assert choose_one(choose_lazily, [endless, endless], [0.9, 0.8], [0, 0], Gaussian())[0] == [0]


@BOTH
def test_ties_go_by_group_then_index(choose) -> None:
    boxes = [FAR, [0.0, 50.0, 10.0, 60.0], A, [50.0, 0.0, 60.0, 10.0]]
    assert choose_one(choose, boxes, [0.5] * 4, [1, 0, 1, 0], Hard())[0] == [1, 3, 0, 2]
    assert choose_one(choose, boxes, [0.5] * 4, [0] * 4, Hard())[0] == [0, 1, 2, 3]


@BOTH
def test_boxes_may_be_shared_and_outputs_few(choose) -> None:
    boxes, scores, groups = torch.tensor([[A, FAR]]), torch.tensor([[0.5, 0.9, 0.7, 0.6]]), torch.tensor([[0, 0, 1, 0]])
    chosen = choose(boxes, scores, groups, torch.tensor([[0, 0, 0, 1]]), Hard(), 2)
    assert (chosen.candidates.tolist(), chosen.valid.tolist()) == ([[1, 2]], [2])


@BOTH
def test_nothing_to_choose_from(choose) -> None:
    assert choose_one(choose, [A], [0.5], [0], Hard(score_threshold=0.5))[0] == []
    none = choose_lazily(torch.zeros(2, 0, 4), *(torch.zeros(2, 0, dtype=kind) for kind in KINDS), Hard(), 3)
    assert none.valid.tolist() == [0, 0]


KINDS = (torch.float32, torch.int64, torch.int64)


@pytest.mark.parametrize("suppression", [Hard(), Hard(0.2, 0.3), Gaussian(), Gaussian(0.1, 0.2)])
@pytest.mark.parametrize("seed", range(6))
def test_batched_is_the_lazy_one(seed: int, suppression: Suppression) -> None:
    boxes, scores = random_candidates(seed, 120)
    # Ties that only exist, or cease to exist, by a rounding are not compared: soft scores start untied.
    if isinstance(suppression, Gaussian):
        scores = scores + torch.arange(120) * 1e-4
    batch = boxes.expand(2, -1, -1), torch.stack([scores, scores.flip(0)]), torch.arange(120).remainder(3).expand(2, -1)
    box_of = torch.arange(120).expand(2, -1)
    lazy, batched = (choose(*batch, box_of, suppression, 40) for choose in (choose_lazily, choose_batched))
    assert torch.equal(lazy.valid, batched.valid)
    assert torch.equal(lazy.candidates, batched.candidates)
    assert torch.allclose(lazy.scores, batched.scores, rtol=0 if isinstance(suppression, Hard) else 1e-5, atol=0)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="sigma must be above 0, found 0"):
        Gaussian(0.0)
    with pytest.raises(ValueError, match=r"iou_threshold must be in 0..1, found 50"):
        Hard(50)


@pytest.mark.tf
class TestAgainstTensorFlow:
    """The kernels themselves, on many seeds; every index, count and score to the bit."""

    @pytest.mark.parametrize(
        "suppression", [Hard(), Hard(0.0), Hard(1.0), Hard(0.3, 0.25), Gaussian(), Gaussian(0.1), Gaussian(2.0, 0.3)]
    )
    def test_one_group(self, suppression: Suppression) -> None:
        import tensorflow as tf

        for seed in range(40):
            boxes, scores = random_candidates(seed, 1 + 5 * seed)
            if seed == 39:  # infinite boxes overlap by NaN
                boxes[3::5, 2] = torch.inf
            sigma = suppression.sigma / 2 if isinstance(suppression, Gaussian) else 0.0
            indices, kept, valid = tf.raw_ops.NonMaxSuppressionV5(
                boxes=boxes.numpy(),
                scores=scores.numpy(),
                max_output_size=50,
                iou_threshold=min(suppression.iou_threshold, 1.0),
                score_threshold=suppression.score_threshold,
                soft_nms_sigma=sigma,
                pad_to_max_output_size=True,
            )
            zeros, order = torch.zeros(1, len(scores), dtype=torch.int64), torch.arange(len(scores))[None]
            ours = choose_lazily(boxes[None], scores[None], zeros, order, suppression, 50)
            assert ours.valid.item() == valid.numpy(), seed
            assert np.array_equal(ours.candidates[0].numpy(), indices.numpy()), seed
            assert np.array_equal(ours.scores[0].numpy(), kept.numpy()), seed

    def test_per_class_is_the_best_of_every_class(self) -> None:
        import tensorflow as tf

        for seed in range(20):
            boxes, scores = random_candidates(seed, 200)
            classes = torch.from_numpy(np.random.default_rng(seed).integers(0, 6, 200))
            found = []
            for label in range(6):
                members = np.flatnonzero(classes.numpy() == label)
                indices, kept = tf.image.non_max_suppression_with_scores(
                    boxes.numpy()[members], scores.numpy()[members], 100, 0.5, 0.001, 0.25
                )
                found += list(zip(kept.numpy(), members[indices.numpy()], strict=True))
            found.sort(key=lambda row: -row[0])  # stable: lower classes first, then the order of choosing
            ours = PerClass()(Candidates(boxes[None], scores[None], classes[None], torch.arange(200)[None]))
            expected = [index for _, index in found][:100]
            assert ours.valid.item() == len(expected)
            assert np.array_equal(ours.boxes[0, : len(expected)].numpy(), boxes.numpy()[expected]), seed
            assert np.array_equal(ours.scores[0, : len(expected)].numpy(), [score for score, _ in found][:100]), seed

    @pytest.mark.parametrize("threshold", [-np.inf, 0.3])
    def test_combined(self, threshold: float) -> None:
        import tensorflow as tf

        for seed in range(20):
            boxes, _ = random_candidates(seed, 60)
            # No ties: TensorFlow leaves their order to its sort.
            scores = torch.from_numpy(np.random.default_rng(seed).permutation(240).reshape(60, 4) / np.float32(240))
            theirs = tf.image.combined_non_max_suppression(
                boxes.numpy()[None, :, None], scores.numpy()[None], 30, 30, 0.5, threshold, clip_boxes=False
            )
            flat = torch.arange(240)[None]
            ours = Combined(threshold, 30)(Candidates(boxes[None], scores.reshape(1, -1), flat % 4, flat // 4))
            assert np.array_equal(ours.boxes.numpy(), theirs[0].numpy()), seed
            assert np.array_equal(ours.scores.numpy(), theirs[1].numpy()), seed
            assert np.array_equal(ours.classes.numpy(), theirs[2].numpy() + 1), seed
            assert np.array_equal(ours.valid.numpy(), theirs[3].numpy()), seed
