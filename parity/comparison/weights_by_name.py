"""Every tensor of a candidate beside the official variable it is of, bit for bit.

A comparison of layers sees a weight only where its input reaches it: on a map of one pixel eight of the nine taps of a
3x3 kernel multiply padding alone. Here values are compared, whatever the images are. Which variable a tensor is of, and
how its axes lie, is the rule table's word; that the table is right is for the layers to show.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ...convert.layout import Array
from ...convert.rules import rules
from ...effdet_torch.config import Config
from .records import TensorFault

NO_VARIABLE = "no variable of the checkpoint is of this name"
NO_TENSOR = "not in the candidate"


def compare_by_name(
    state: Mapping[str, torch.Tensor], variables: Mapping[str, NDArray[np.float32]], config: Config
) -> tuple[int, tuple[TensorFault, ...]]:
    """(how many tensors were compared, those that differ) of a state dict and {official TF1 name: array as stored}.

    Bits are compared, so that a NaN equals itself and zero is not minus zero. A tensor or variable that only one side
    has differs.
    """
    table = rules(config)
    faults = []
    for rule in table:
        ours, theirs = state.get(rule.torch), variables.get(rule.tf)
        if ours is None or theirs is None:
            faults.append(_fault_of(rule.torch, rule.tf, NO_TENSOR if ours is None else NO_VARIABLE))
            continue
        array = ours.detach().cpu().numpy()
        back = rule.layout.to_tensorflow(array) if array.ndim == len(rule.layout.torch_shape(rule.shape)) else array
        fault = _fault(back, theirs)
        if fault:
            faults.append(_fault_of(rule.torch, rule.tf, *fault))
    known, official = {rule.torch for rule in table}, {rule.tf for rule in table}
    faults += [_fault_of(key, "", NO_VARIABLE) for key in state if key not in known]
    faults += [_fault_of("", name, NO_TENSOR) for name in variables if name not in official]
    return len(table) + len(state.keys() - known) + len(variables.keys() - official), tuple(faults)


def _fault_of(
    tensor: str, official: str, reason: str, differ: int | None = None, values: int | None = None
) -> TensorFault:
    return TensorFault(tensor=tensor, official=official, reason=reason, differ=differ, values=values)


def _fault(ours: Array, theirs: Array) -> tuple[str, int | None, int | None] | None:
    """(reason, values that differ, values) of two arrays in TensorFlow's layout; None where every bit is equal."""
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        expected, found = (f"{array.dtype} {list(array.shape)}" for array in (theirs, ours))
        return f"expected {expected}, found {found}", None, None
    bits = (np.ascontiguousarray(array).view(np.uint8).reshape(array.size, -1) for array in (ours, theirs))
    differ = int(np.not_equal(*bits).any(axis=1).sum())
    return (f"{differ} of {ours.size} values", differ, ours.size) if differ else None
