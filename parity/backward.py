"""Gradients of a fixed scalar with respect to every trainable variable: TensorFlow's tape beside PyTorch's autograd."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..convert.rules import rules
from ..effdet_torch.config import Config
from ..effdet_torch.model import EfficientDet
from ..errors import EffconvError
from .copying import copied
from .difference import Array, difference, fault_of, largest, relative_error
from .limits import FLOAT64_LIMIT, float32_limit
from .reference import gradients
from .rows import Check, Noise
from .trace import nhwc

SEED = 20240501
NOT_TRAINABLE = ("moving_mean", "moving_variance")  # they have no gradient in training, and PyTorch computes none


class GradientRow(NamedTuple):
    """One variable. `checks` is keyed "float64" and "float32"."""

    variable: str  # in our state dict
    official: str
    shape: tuple[int, ...]  # TensorFlow's
    checks: Mapping[str, Check]
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Whether the gradients could be compared and every check holds."""
        return not self.fault and bool(self.checks) and all(check.ok for check in self.checks.values())


def coefficients(config: Config, size: tuple[int, int], batch: int) -> dict[str, NDArray[np.float32]]:
    """{output: (B, h, w, C) standard normal}, over the number of values: the scalar is the sum of output times these.

    Both sides take the same ones, so that every output matters and none cancels another.
    """
    random = np.random.RandomState(SEED)
    found = {}
    for kind, channels in (("class", config.num_classes), ("box", 4)):
        for level in config.levels:
            height, width = (-(-side // 2**level) for side in size)
            shape = batch, height, width, config.num_anchors * channels
            found[f"{kind}_outputs/{level}"] = (random.standard_normal(shape) / np.prod(shape)).astype(np.float32)
    return found


def compare_gradients(
    model: EfficientDet, variables: Mapping[str, NDArray[np.float32]], images: NDArray[np.float32]
) -> list[GradientRow]:
    """One row per trainable variable of `model`, in the order of the rule table, on `images` (B, 3, H, W).

    Batch norms use their moving statistics, as at inference. Memory is that of two whole backward passes. Raises
    EffconvError without TensorFlow, or when the images do not suit the model.
    """
    config = model.config
    factors = coefficients(config, images.shape[2:], len(images))
    reference = {
        precision: gradients(config, variables, nhwc(images), factors, precision)
        for precision in ("float32", "float64")
    }
    own = {precision: _torch_gradients(model, images, factors, precision) for precision in ("float32", "float64")}
    rows = []
    for rule in rules(config):
        if rule.tf.endswith(NOT_TRAINABLE):
            continue
        mine: dict[str, Array | None] = {}
        for precision, found in own.items():
            gradient = found.get(rule.torch)
            mine[precision] = None if gradient is None else rule.layout.to_tensorflow(gradient)
        theirs = {precision: found[rule.tf] for precision, found in reference.items()}
        rows.append(_row(rule.torch, rule.tf, mine, theirs))
    return rows


def _row(variable: str, official: str, own: Mapping[str, Array | None], reference: Mapping[str, Array]) -> GradientRow:
    shape = reference["float64"].shape
    flat: dict[tuple[str, str], Array] = {}
    for whose, arrays in (("candidate", own), ("reference", reference)):
        for precision, array in arrays.items():
            if array is None or array.shape != shape:
                problem = "no gradient" if array is None else f"shape {array.shape} instead of {shape}"
                return GradientRow(variable, official, shape, {}, f"{problem} in the {whose}")
            flat[whose, precision] = np.ravel(array)
            if fault := fault_of(flat[whose, precision], whose):
                return GradientRow(variable, official, shape, {}, fault)
    scale = largest(flat["reference", "float64"])
    noise = Noise(
        relative_error(flat["candidate", "float32"], flat["candidate", "float64"], scale),
        relative_error(flat["reference", "float32"], flat["reference", "float64"], scale),
        False,
    )
    checks = {
        "float64": Check(difference(flat["candidate", "float64"], flat["reference", "float64"], scale), FLOAT64_LIMIT),
        "float32": Check(
            difference(flat["candidate", "float32"], flat["reference", "float32"], scale),
            float32_limit(noise.candidate, noise.reference),
            noise,
        ),
    }
    return GradientRow(variable, official, shape, checks)


def _torch_gradients(
    model: EfficientDet, images: NDArray[np.float32], factors: Mapping[str, NDArray[np.float32]], precision: str
) -> dict[str, Array]:
    dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
    network = copied(model).to(dtype).eval().requires_grad_(True)
    try:
        outputs = network(torch.from_numpy(images).to(dtype))
    except RuntimeError as error:
        raise EffconvError(f"the candidate's run stopped: {str(error).splitlines()[0]}") from error
    scalar = torch.zeros((), dtype=dtype)
    for kind, maps in zip(("class", "box"), outputs, strict=True):
        for level, output in zip(model.config.levels, maps, strict=True):
            factor = torch.from_numpy(factors[f"{kind}_outputs/{level}"]).to(dtype)
            scalar = scalar + (output.permute(0, 2, 3, 1) * factor).sum()
    scalar.backward()  # type: ignore[no-untyped-call]
    return {name: value.grad.numpy() for name, value in network.named_parameters() if value.grad is not None}
