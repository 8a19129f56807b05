"""The official hyper-parameters, as literal numbers: both sides of the training parity read the same ones.

Source: google/automl `hparams_config.py: default_detection_configs`.
"""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from effconv.cli import main
from effconv.effdet_torch.training.augment import Augmentation
from effconv.effdet_torch.training.loss import LossSettings
from effconv.effdet_torch.training.optimizer import decayed_parameters
from effconv.effdet_torch.training.schedule import official_schedule
from effconv.effdet_torch.training.start import random_model
from effconv.effdet_torch.training.trainer import Training, TrainingSettings
from effconv.parity.reference.training import OfficialSettings
from effconv.parity.training import train as training_job
from effconv.parity.training.job import Job
from training_data import TINY

STEP = {"momentum": 0.9, "weight_decay": 4e-5, "clip_norm": 10.0, "average_decay": 0.9998}
LOSS = {"alpha": 0.25, "gamma": 1.5, "label_smoothing": 0.0, "delta": 0.1, "box_weight": 50.0}
SCHEDULE = {"rate": 0.08, "warmup_rate": 0.008, "warmup_epochs": 1.0}


def values(settings: Any, names: dict[str, float]) -> dict[str, float]:
    return {name: getattr(settings, name) for name in names}


def test_the_defaults_are_official() -> None:
    settings = TrainingSettings()
    assert values(settings, STEP) == STEP
    assert values(settings.loss, LOSS) == values(LossSettings(), LOSS) == LOSS
    assert settings.loss.iou_kind is None
    assert values(OfficialSettings(learning_rates=()), STEP | LOSS) == STEP | LOSS
    augmentation = Augmentation()
    assert (augmentation.flip, augmentation.jitter_min, augmentation.jitter_max) == (True, 0.1, 2.0)
    defaults = {name: each.default for name, each in inspect.signature(official_schedule).parameters.items()}
    assert {name: defaults[name] for name in SCHEDULE} == SCHEDULE
    job = {field.name: field.default for field in dataclasses.fields(Job)}
    expected = {"rate": 0.08, "warmup_epochs": 1.0, "schedule": "cosine", "epochs": 300, "batch": 64, "resume": False}
    assert {name: job[name] for name in expected} == expected


def test_the_command_trains_with_the_official_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Job] = []
    monkeypatch.setattr(training_job, "train", lambda job, *rest: asked.append(job))
    options = ["--data", str(tmp_path), "--model", "d0", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["train", *options])
    assert result.exit_code == 0, result.output
    (job,) = asked
    assert values(job.settings, STEP) == STEP
    assert values(job.settings.loss, LOSS) == LOSS
    assert (job.rate, job.warmup_epochs, job.schedule, job.epochs, job.batch) == (0.08, 1.0, "cosine", 300, 64)
    assert job.augmentation == Augmentation(flip=True, jitter_min=0.1, jitter_max=2.0)
    assert not job.resume


@pytest.fixture
def default_training() -> Training:
    return Training(random_model(TINY, 0), lambda step: 1.0)


Gradient = Callable[[torch.Tensor], torch.Tensor]


def move(training: Training, gradient: Gradient) -> dict[str, torch.Tensor]:
    """How far an optimisation step at rate 1 moves each parameter, whose gradient is given."""
    before = {name: each.detach().clone() for name, each in training.model.named_parameters()}
    for each in training.model.parameters():
        each.grad = gradient(each.detach())
    training.optimizer.step(1.0)
    return {name: before[name] - each.detach() for name, each in training.model.named_parameters()}


def test_a_step_decays_kernels_by_the_official_factor(default_training: Training) -> None:
    kernels = {name: each.detach().clone() for name, each in decayed_parameters(default_training.model)}
    moved = move(default_training, torch.zeros_like)
    for name, kernel in kernels.items():
        # The difference of two float32 weights is off by half a step of the weight's own last digit; 3e-5 and 5e-5
        # in place of 4e-5 are off by a quarter.
        assert moved[name].norm() / kernel.norm() == pytest.approx(4e-5, rel=0.01), name
    assert all(not moved[name].any() for name in moved if name not in kernels)


def test_a_step_clips_to_the_official_norm_and_goes_on_with_the_official_momentum(default_training: Training) -> None:
    # Large enough for weight decay to be lost; the norm of what float32 weights moved is right to a thousandth.
    moved = move(default_training, lambda value: torch.full_like(value, 1e6))
    assert torch.stack([each.norm() for each in moved.values()]).norm() == pytest.approx(10.0, rel=1e-3)
    momenta = {name: each.clone() for name, each in default_training.optimizer.momenta().items()}
    norms = {name for name in momenta if momenta[name].ndim == 1}
    move(default_training, torch.zeros_like)
    for name in norms:  # without weight decay, so momentum alone goes on
        assert torch.equal(default_training.optimizer.momenta()[name], momenta[name] * 0.9), name


def test_averages_follow_by_the_official_decay(default_training: Training) -> None:
    average = default_training.average
    average.updates = 10**6  # long after the first steps, which count for more
    name = next(iter(average.values))
    with torch.no_grad():
        for value in default_training.model.state_dict().values():
            value.zero_()
        average.values[name].fill_(1.0)
    average.update(default_training.model)
    # One float32 rounding; 0.9999, half of the movement, is off by 1e-4.
    assert average.values[name].flatten()[0].item() == pytest.approx(0.9998, abs=1e-6)
