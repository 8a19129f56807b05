"""Random values to train from: their distributions, against the official formulae on the official shapes."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from effconv.convert.rules import rules
from effconv.effdet_torch.config import get_config
from effconv.effdet_torch.training.start import random_model

CONFIG = get_config("lite0")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return random_model(CONFIG, 0).state_dict()


def official_deviation(name: str, shape: tuple[int, ...]) -> float:
    """Of a kernel of TensorFlow's shape (k, k, inputs, outputs), or (k, k, C, 1) when depthwise."""
    window, inputs, outputs = math.prod(shape[:2]), shape[2], shape[3]
    if name.startswith("efficientnet"):
        return math.sqrt(2 / (window * outputs))
    if name.startswith(("class_net", "box_net")):
        return math.sqrt(1 / (window * inputs))
    return math.sqrt(6 / (window * (inputs + outputs))) / math.sqrt(3)


def test_kernels_have_the_official_deviation(state: dict[str, torch.Tensor]) -> None:
    kernels = [rule for rule in rules(CONFIG) if rule.tf.endswith("kernel")]
    assert len(kernels) > 100
    for rule in kernels:
        values = rule.layout.to_tensorflow(state[rule.torch].numpy())
        expected = official_deviation(rule.tf, values.shape)
        # The deviation of N draws is known to about 1 / sqrt(2 N).
        assert values.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * values.size)), rule.tf


def test_shapes_of_distributions(state: dict[str, torch.Tensor]) -> None:
    head = state["class_head.convs.0.pointwise.weight"]
    assert float(head.abs().max()) <= 2 / 0.8796256610342398 / math.sqrt(head.shape[1])
    fusion = state["bifpn.cells.0.nodes.0.conv.pointwise.weight"]
    assert 0.97 < float(fusion.abs().max()) / math.sqrt(6 / (2 * fusion.shape[1])) <= 1
    stem = state["backbone.stem.conv.weight"]
    assert float(stem.abs().max()) > 2.5 * float(stem.std())  # normal, not cut off


def test_biases_norms_and_fusion_weights(state: dict[str, torch.Tensor]) -> None:
    class_bias = state["class_head.predict.pointwise.bias"]
    np.testing.assert_allclose(class_bias.sigmoid().numpy(), 0.01, rtol=1e-5)
    for name, module in random_model(get_config("d0"), 0).named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None and name != "class_head.predict.pointwise":
            assert not module.bias.any(), name
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight)), name
            assert not module.bias.any(), name
        if name.endswith("fuse"):
            assert all(weight.item() == 1 for weight in module.parameters()), name
