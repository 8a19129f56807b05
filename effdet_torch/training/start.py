"""What training starts from: random values, or a trained model's weights, with new class predictions where needed."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import Config
from ..model import EfficientDet

# What depends on the number of classes: the last step of the class head.
CLASS_PREDICTIONS = ("class_head.predict.pointwise.weight", "class_head.predict.pointwise.bias")


class Start(NamedTuple):
    """A model to train, and the names of the tensors that are new in it because its number of classes is another."""

    model: EfficientDet
    new: tuple[str, ...]


def random_model(config: Config, seed: int) -> EfficientDet:
    """A model with values to train from nothing, which depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EfficientDet(config)


def transferred(trained: Mapping[str, Tensor], config: Config, num_classes: int, seed: int) -> Start:
    """A model of `num_classes` with the weights of a trained one (a whole state dict of `config`).

    With the same number everything is taken over. With another, the class head's last pointwise convolution starts
    anew, every class with the probability of `initialisation.CLASS_PRIOR`; all else is taken over.
    """
    same = num_classes == config.num_classes
    new = () if same else CLASS_PREDICTIONS
    model = random_model(config if same else dataclasses.replace(config, num_classes=num_classes, class_names=()), seed)
    state = model.state_dict()
    model.load_state_dict({name: state[name] if name in new else value for name, value in trained.items()}, strict=True)
    return Start(model, new)
