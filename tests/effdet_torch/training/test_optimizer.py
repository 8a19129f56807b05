"""The optimisation step and the moving average, worked out by hand in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from effconv.convert.rules import rules
from effconv.effdet_torch.config import VARIANTS, get_config
from effconv.effdet_torch.model import EfficientDet
from effconv.effdet_torch.training.moving_average import MovingAverage
from effconv.effdet_torch.training.optimizer import Optimizer, clip_, decayed_parameters

KERNELS = ("/kernel", "/depthwise_kernel", "/pointwise_kernel")


def meta_model(name: str) -> EfficientDet:
    with torch.device("meta"):
        return EfficientDet(name)


@pytest.mark.parametrize("name", VARIANTS)
def test_weight_decay_concerns_the_variables_whose_official_names_end_in_kernel(name: str) -> None:
    decayed = {key for key, _ in decayed_parameters(meta_model(name))}
    assert decayed == {rule.torch for rule in rules(get_config(name)) if rule.tf.endswith(KERNELS)}


def test_weight_decay_of_d0() -> None:
    model = meta_model("d0")
    assert len(decayed_parameters(model)) == 150
    assert len(list(model.parameters())) == 493


class Small(nn.Module):
    """A kernel, a bias and a fusion weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.weight = nn.Parameter(torch.tensor(1.5))


def gradients(model: nn.Module, scale: float, seed: int) -> dict[str, np.ndarray]:
    random, found = np.random.default_rng(seed), {}
    for name, parameter in model.named_parameters():
        found[name] = scale * random.standard_normal(tuple(parameter.shape))
        parameter.grad = torch.tensor(found[name], dtype=parameter.dtype)
    return found


@pytest.mark.parametrize("scale", [0.01, 2.0, 30.0])  # below both limits, above that of all together, above both
def test_steps_by_hand(scale: float) -> None:
    """Decay before clipping; each gradient, then all together; momentum of gradients, times the rate of the moment."""
    model = Small().double()
    optimizer = Optimizer(model, momentum=0.9, weight_decay=0.1, clip_norm=2.0)
    weights = {name: value.detach().numpy().copy() for name, value in model.named_parameters()}
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    for number, rate in enumerate((0.5, 0.25, 0.125)):
        found = gradients(model, scale, number)
        assert float(optimizer.decay_loss()) == pytest.approx(0.05 * (weights["conv.weight"] ** 2).sum())
        norms = optimizer.step(rate)
        found["conv.weight"] = found["conv.weight"] + 0.1 * weights["conv.weight"]
        every = np.sqrt(sum((value**2).sum() for value in found.values()))
        found = {name: value * 2 / max(2, np.linalg.norm(value)) for name, value in found.items()}
        together = np.sqrt(sum((value**2).sum() for value in found.values()))
        assert float(norms.found) == pytest.approx(every)
        assert float(norms.clipped) == pytest.approx(min(2, together))
        for name, value in found.items():
            velocity[name] = 0.9 * velocity[name] + value * 2 / max(2, together)
            weights[name] = weights[name] - rate * velocity[name]
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), weights[name], rtol=1e-12)
        assert parameter.grad is None
    for name, value in optimizer.momenta().items():
        np.testing.assert_allclose(value.numpy(), velocity[name], rtol=1e-12)


def test_a_parameter_without_a_gradient_keeps_moving_by_its_momentum() -> None:
    model = Small()
    optimizer = Optimizer(model, momentum=0.5, weight_decay=0.0, clip_norm=1e9)
    gradients(model, 1.0, 0)
    optimizer.step(1.0)
    before, momentum = model.weight.detach().clone(), optimizer.momenta()["weight"].clone()
    optimizer.step(1.0)
    torch.testing.assert_close(model.weight.detach(), before - 0.5 * momentum)


def test_clipping_leaves_small_gradients_alone() -> None:
    given = [torch.tensor([0.3, 0.4]), torch.tensor(0.5)]
    norms = clip_(given, 1.0)
    assert torch.equal(given[0], torch.tensor([0.3, 0.4]))
    assert float(norms.found) == float(norms.clipped) == pytest.approx(0.5**0.5)
    nothing = [torch.zeros(3)]
    assert float(clip_(nothing, 1.0).found) == 0
    assert torch.equal(nothing[0], torch.zeros(3))


def test_momentum_is_taken_up_again() -> None:
    one, two = Small(), Small()
    two.load_state_dict(one.state_dict())
    first, second = (Optimizer(each, momentum=0.9, weight_decay=0.1, clip_norm=10.0) for each in (one, two))
    assert not any(value.any() for value in first.momenta().values())
    gradients(one, 1.0, 0)
    first.step(0.1)
    two.load_state_dict(one.state_dict())
    second.restore(first.momenta())
    for model, optimizer in ((one, first), (two, second)):
        gradients(model, 1.0, 1)
        optimizer.step(0.1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"momentum of weight: \(2,\), expected \(\)"):
        second.restore({**first.momenta(), "weight": torch.zeros(2)})


def test_frozen_parameters_are_no_part_of_it() -> None:
    model = Small()
    model.weight.requires_grad_(False)
    optimizer = Optimizer(model, momentum=0.9, weight_decay=0.1, clip_norm=1.0)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer.step(0.5)
    assert torch.equal(model.weight, before["weight"])
    assert not torch.equal(model.conv.weight, before["conv.weight"])  # decayed
    assert set(optimizer.momenta()) == {"conv.weight", "conv.bias"}


def test_moving_average_by_hand() -> None:
    model = nn.BatchNorm1d(1, track_running_stats=True)
    model.num_batches_tracked = None
    average = MovingAverage(model, 0.5)
    expected, decays = 1.0, []
    for number in range(1, 12):
        with torch.no_grad():
            model.weight.fill_(float(number))
            model.running_mean.fill_(10.0 * number)  # type: ignore[union-attr,operator]
        average.update(model)
        decays.append(min(0.5, (1 + number) / (10 + number)))
        expected = expected * decays[-1] + number * (1 - decays[-1])
    assert decays[0] == pytest.approx(2 / 11)
    assert decays[-1] == 0.5
    assert float(average.values["weight"]) == pytest.approx(expected, rel=1e-6)
    assert float(average.values["running_mean"]) > 50  # batch statistics are averaged too
    assert average.updates == 11
    other = MovingAverage(model, 0.5)
    other.restore(average.values, 11)
    assert torch.equal(other.values["weight"], average.values["weight"])
    with pytest.raises(KeyError):
        other.restore({}, 0)
