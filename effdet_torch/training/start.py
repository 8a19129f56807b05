"""What training starts from: random values, or a trained model's weights, its class predictions taken over or new."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import Config
from ..model import EfficientDet

# What depends on the number of classes: the last step of the class head.
CLASS_PREDICTIONS = ("class_head.predict.pointwise.weight", "class_head.predict.pointwise.bias")


class Start(NamedTuple):
    """A model to train, and the names of the tensors that are new in it because none of its classes was trained."""

    model: EfficientDet
    new: tuple[str, ...]


def random_model(config: Config, seed: int) -> EfficientDet:
    """A model with values to train from nothing, which depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EfficientDet(config)


def transferred(trained: Mapping[str, Tensor], config: Config, rows: Sequence[int | None], seed: int) -> Start:
    """A model of `len(rows)` classes with the weights of a trained one (a whole state dict of `config`).

    Class c takes the class predictions of the trained class `rows[c]`, counted from 0. Where that is None they start
    anew, with the probability of `initialisation.CLASS_PRIOR`. All else is taken over.
    """
    same = list(rows) == list(range(config.num_classes))
    new = CLASS_PREDICTIONS if all(row is None for row in rows) else ()
    own = config if same else dataclasses.replace(config, num_classes=len(rows), class_names=())
    model = random_model(own, seed)
    made, state = model.state_dict(), dict(trained)
    taken = {place: row for place, row in enumerate(rows) if row is not None}
    for name in CLASS_PREDICTIONS:  # channel a*C + c is class c of anchor a
        theirs = trained[name].reshape(config.num_anchors, config.num_classes, -1)
        made[name].view(config.num_anchors, len(rows), -1)[:, list(taken)] = theirs[:, list(taken.values())]
        state[name] = made[name]
    model.load_state_dict(state, strict=True)
    return Start(model, new)
