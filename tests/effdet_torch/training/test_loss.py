"""The official losses: by hand, beside what the official code printed, their gradients and their memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from effconv.effdet_torch.postprocessing.anchors import official_anchors
from effconv.effdet_torch.training.iou_loss import IouKind, iou_loss
from effconv.effdet_torch.training.loss import FocalLoss, LossSettings, detection_loss, huber_loss
from effconv.effdet_torch.training.targets import IGNORED, Targets, batch_targets, label_anchors
from effconv.parity.traces.golden import Golden
from recorded_losses import CONFIG, LOSS_LIMIT

ANCHORS = torch.as_tensor(official_anchors(CONFIG))


def plain_focal(logits: Tensor, wanted: Tensor, alpha: float, gamma: float, smoothing: float) -> Tensor:
    """The formula of the paper, one logit at a time, in PyTorch's own differentiable operations; (B, A*C, h, w)."""
    images, channels, height, width = logits.shape
    anchors = wanted.shape[1] // (height * width)
    grid = wanted.view(images, height, width, anchors)
    hot = functional.one_hot(grid.clamp(min=0), channels // anchors) * (grid >= 0)[..., None]
    kept = (grid != IGNORED)[..., None].expand(hot.shape)
    true, kept = (each.flatten(3).permute(0, 3, 1, 2).to(logits.dtype) for each in (hot, kept))
    p = torch.sigmoid(logits)
    right = true * p + (1 - true) * (1 - p)
    weight = true * alpha + (1 - true) * (1 - alpha)
    smoothed = true * (1 - smoothing) + 0.5 * smoothing
    cross = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    return (kept * weight * (1 - right) ** gamma * cross).sum()


@pytest.mark.parametrize(("alpha", "gamma", "smoothing"), [(0.25, 1.5, 0.0), (0.4, 2.0, 0.1), (0.25, 1.0, 0.0)])
def test_focal_loss_and_its_gradient_are_the_plain_ones(alpha: float, gamma: float, smoothing: float) -> None:
    """In float64, where only an error of the formula could show; anchors of every kind, logits of every size."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3 * 5, 4, 6, generator=random, dtype=torch.float64) * 4
    wanted = torch.randint(-2, 5, (2, 4 * 6 * 3), generator=random)
    found = []
    for function in (FocalLoss.apply, plain_focal):
        copy = logits.clone().requires_grad_()
        loss = function(copy, wanted, alpha, gamma, smoothing)
        (3 * loss).backward()
        found.append((loss.detach(), copy.grad))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-12, atol=0)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-12, atol=1e-14)


def test_a_perfect_prediction_costs_nothing_and_extremes_are_finite() -> None:
    logits = torch.full((1, 4, 1, 1), -200.0)
    logits[0, 2] = 200.0
    logits.requires_grad_()
    loss = FocalLoss.apply(logits, torch.tensor([[2]]), 0.25, 1.5, 0.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.all(logits.grad == 0)
    wrong = (-logits).detach().requires_grad_()
    loss = FocalLoss.apply(wrong, torch.tensor([[2]]), 0.25, 1.5, 0.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(200 * (0.25 + 3 * 0.75))
    assert torch.isfinite(wrong.grad).all()


def test_gamma_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma must be at least 1"):
        LossSettings(gamma=0.5)


@pytest.mark.parametrize("part", [1, 100, 1 << 20])
def test_parts_change_nothing(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(2, 9 * 7, 8, 10, generator=torch.Generator().manual_seed(1))
    wanted = torch.randint(-2, 7, (2, 8 * 10 * 9), generator=torch.Generator().manual_seed(2))
    whole = FocalLoss.apply(logits, wanted, 0.25, 1.5, 0.0)
    monkeypatch.setattr("effconv.effdet_torch.training.loss.PART", part)
    assert torch.allclose(FocalLoss.apply(logits, wanted, 0.25, 1.5, 0.0), whole, rtol=1e-6)


def test_huber_is_quadratic_then_linear_and_leaves_zeros_out() -> None:
    codes = torch.tensor([[0.05, -1.0, 0.3, 7.0]])
    wanted = torch.tensor([[0.1, -0.8, 0.2, 0.0]])
    expected = 0.5 * 0.05**2 + (0.1 * 0.2 - 0.005) + 0.5 * 0.1**2
    assert float(huber_loss(codes, wanted, 0.1)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_iou_losses_by_hand(kind: IouKind) -> None:
    box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    assert float(iou_loss(box, box, kind)) == pytest.approx(0)
    assert float(iou_loss(box, torch.zeros(4), kind)) == 0  # an empty true box
    shifted = torch.tensor([0.0, 1.0, 2.0, 3.0])  # overlap 2, union 6, around 2x3, centres 1 apart, diagonal squared 13
    expected = {"iou": 2 / 3, "giou": 2 / 3, "diou": 2 / 3 + 1 / 13, "ciou": 2 / 3 + 1 / 13}
    assert float(iou_loss(box, shifted, kind)) == pytest.approx(expected[kind])
    apart = box + 10
    assert float(iou_loss(box, apart, kind)) == pytest.approx(
        {"iou": 1, "giou": 1 + (144 - 8) / 144}.get(kind, 1 + 200 / 288)
    )


# --- what the official code printed ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest) -> Iterator[Any]:
    with np.load(request.getfixturevalue("shared") / "goldens" / "loss.npz") as found:
        yield found


@pytest.fixture
def outputs(shared: Path) -> tuple[list[Tensor], list[Tensor]]:
    golden = Golden(shared / "goldens" / "act_tiny-swish_128x160.npz")

    def read(kind: str) -> list[Tensor]:
        found = [golden[f"{kind}_outputs/{level}"] for level in CONFIG.levels]
        assert all(each.step == 1 for each in found)
        arrays = [torch.from_numpy(each.sample.reshape(each.shape)) for each in found]
        return [each.permute(0, 3, 1, 2).contiguous().requires_grad_() for each in arrays]

    return read("class"), read("box")


@pytest.fixture
def targets(record: Any) -> Targets:
    return batch_targets(
        [
            label_anchors(
                torch.from_numpy(record[f"label_tiny-swish_{image}/gt_boxes"]),
                torch.from_numpy(record[f"label_tiny-swish_{image}/gt_classes"][:, 0]).long() - 1,
                ANCHORS,
            )
            for image in (0, 1)
        ]
    )


def ignoring(targets: Targets, record: Any) -> Targets:
    levels = [torch.from_numpy(record[f"ignore/cls_targets_{level}"]).reshape(2, -1) for level in CONFIG.levels]
    return targets._replace(classes=torch.cat(levels, 1).long())


CASES: dict[str, dict[str, Any]] = {
    "tf1/default": {},
    "tf1/label_smoothing0.1": {"label_smoothing": 0.1},
    "tf1/gamma2_alpha0.4_delta0.5": {"gamma": 2.0, "alpha": 0.4, "delta": 0.5},
    "tf1/with_ignore": {},
    **{f"tf2/iou_{kind}": {"iou_kind": kind} for kind in ("iou", "giou", "diou", "ciou")},
}


@pytest.mark.shared
@pytest.mark.parametrize("name", CASES)
def test_recorded_losses(name: str, record: Any, outputs: tuple[list[Tensor], list[Tensor]], targets: Targets) -> None:
    if "ignore" in name:
        targets = ignoring(targets, record)
    with torch.no_grad():
        found = detection_loss(*outputs, targets, ANCHORS, LossSettings(**CASES[name]))
    expected = json.loads(str(record["meta"]))["losses"][name]
    assert float(found.total) == pytest.approx(expected["total"], rel=LOSS_LIMIT)
    assert float(found.classes) == pytest.approx(expected["cls_loss"], rel=LOSS_LIMIT)
    assert float(found.boxes) == pytest.approx(expected["box_loss"], rel=LOSS_LIMIT)
    assert float(found.iou) == pytest.approx(expected.get("box_iou_loss", 0), rel=LOSS_LIMIT)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["default", "with_ignore"])
def test_recorded_gradients(
    name: str, record: Any, outputs: tuple[list[Tensor], list[Tensor]], targets: Targets
) -> None:
    if name == "with_ignore":
        targets = ignoring(targets, record)
    detection_loss(*outputs, targets, ANCHORS).total.backward()
    for kind, levels in zip(("class", "box"), outputs, strict=True):
        for level, output in zip(CONFIG.levels, levels, strict=True):
            expected = record[f"grad/{name}/{kind}_outputs_{level}"].transpose(0, 3, 1, 2)
            assert output.grad is not None
            gap = np.abs(output.grad.numpy() - expected).max()
            assert gap <= 1e-5 * np.abs(expected).max(), (kind, level)


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_recorded_iou_losses(kind: IouKind, record: Any) -> None:
    boxes, true = (torch.from_numpy(record[f"iou/{name}"]) for name in ("pred", "target"))
    # One minus a quotient near one: two units in the last place of 1.
    assert np.abs(iou_loss(boxes, true, kind).numpy() - record[f"iou/loss_{kind}"]).max() <= 2.4e-7


# --- memory ------------------------------------------------------------------------------------------------------


def test_the_loss_adds_little_more_than_its_gradient_to_the_peak() -> None:
    """At most one and a half times the logits' memory, the gradient itself included, forward and backward."""
    logits = [torch.randn(2, 9 * 90, side, side, requires_grad=True) for side in (64, 32, 16, 8, 4)]
    size = sum(each.numel() * 4 for each in logits)
    counts = [side * side * 9 for side in (64, 32, 16, 8, 4)]
    wanted = torch.randint(-1, 90, (2, sum(counts))).split(counts, 1)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        losses = [FocalLoss.apply(each, want, 0.25, 1.5, 0.0) for each, want in zip(logits, wanted, strict=True)]
        torch.stack(losses).sum().backward()
    held = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda each: each.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert size <= peak < 1.5 * size
