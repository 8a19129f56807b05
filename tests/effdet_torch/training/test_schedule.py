"""Learning rates against the official code's, recorded, and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effconv.effdet_torch.training.schedule import Schedule, official_schedule

RUNS = [f"{kind}_bs{batch}" for kind in ("cosine", "stepwise", "polynomial") for batch in (64, 128)]


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "goldens" / "lr_schedule.json").read_text())
    return found


@pytest.mark.shared
@pytest.mark.parametrize("run", RUNS)
def test_rates_are_those_of_the_official_estimator(run: str, recorded: dict[str, Any]) -> None:
    given = recorded[run]["tf1_params"]
    kind, batch = run.split("_bs")
    schedule = official_schedule(
        batch=int(batch),
        steps_per_epoch=given["steps_per_epoch"],
        epochs=300,
        kind=kind,  # type: ignore[arg-type]
    )
    assert schedule == Schedule(
        kind=kind,  # type: ignore[arg-type]
        rate=given["adjusted_learning_rate"],
        warmup_rate=given["adjusted_lr_warmup_init"],
        warmup_steps=given["lr_warmup_step"],
        total_steps=given["total_steps"],
        drop_steps=(given["first_lr_drop_step"], given["second_lr_drop_step"]),
    )
    assert [schedule(step) for step in recorded[run]["steps"]] == recorded[run]["tf1"]


@pytest.mark.shared
@pytest.mark.parametrize("run", RUNS)
def test_rates_are_those_of_the_official_keras_trainer(run: str, recorded: dict[str, Any]) -> None:
    """Which starts the warm-up at the same rate whatever the batch, and cuts epochs off to whole steps."""
    given, kind = recorded[run]["tf2_params"], run.split("_bs")[0]
    epoch = given["steps_per_epoch"]
    schedule = Schedule(
        kind=kind,  # type: ignore[arg-type]
        rate=given["adjusted_learning_rate"],
        warmup_rate=0.008,
        warmup_steps=given["lr_warmup_step"],
        total_steps=given["total_steps"],
        drop_steps=(200 * epoch, 250 * epoch),
    )
    compared = 0
    for step, rate in zip(recorded[run]["steps"], recorded[run]["tf2"], strict=True):
        if step <= given["total_steps"]:
            # TensorFlow's cosine is not rounded correctly everywhere: one unit in the last place at most.
            assert abs(schedule(step) - rate) <= (np.spacing(np.float32(rate)) if kind == "cosine" else 0)
            compared += 1
    assert compared >= 13


def test_by_hand() -> None:
    schedule = Schedule(kind="cosine", rate=0.5, warmup_rate=0.25, warmup_steps=4, total_steps=12)
    assert [schedule(step) for step in (0, 2, 8)] == [0.25, 0.375, 0.0]
    assert schedule(4) == pytest.approx(0.25)  # half of its period is over when the warm-up ends
    assert schedule(12) > schedule(8)
    constant = Schedule(kind="constant", rate=0.5, warmup_rate=0.0, warmup_steps=0, total_steps=9)
    assert (constant(0), constant(8)) == (0.5, 0.5)


def test_rates_grow_with_the_batch() -> None:
    small, large = (official_schedule(batch=batch, steps_per_epoch=10, epochs=3) for batch in (16, 64))
    assert (large.rate, large.warmup_rate) == (0.08, 0.008)
    assert (small.rate, small.warmup_rate) == (0.02, 0.002)
    assert (small.warmup_steps, small.total_steps) == (10, 30)
