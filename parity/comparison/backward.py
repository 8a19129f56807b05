"""Gradients of a fixed scalar with respect to every trainable variable: TensorFlow's tape beside PyTorch's autograd."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...convert.rules import rules
from ...effdet_torch.config import Config
from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ..copying import copied
from ..difference import difference, fault_of, largest, relative_error
from ..gaps import Array
from ..limits import FLOAT64_LIMIT
from ..reference.network import gradients
from ..traces.trace import nhwc
from .backward_noise import record_maps, round_maps
from .rows import Check, Noise

SEED = 20240501
NOT_TRAINABLE = ("moving_mean", "moving_variance")  # they have no gradient in training, and PyTorch computes none

# A float32 gradient's limit is this times the larger of two measurements in which the candidate's float32 gradients
# have no part: what rounding costs its float64 backward pass (`backward_noise.py`), and TensorFlow's float32 beside its
# float64. Each is the largest of the variables of one module, for a variable of few values loses much or little by
# chance. Clean models, of 11508 gradients: at most 2.3 times (the embedded detector 2.3, tiny-swish 2.2, tiny-lite 2.0,
# tiny-sum8 1.9, d0 at 128x128 1.8; 34 seeds in all), and the factor is about twice that.
# It refuses a backward pass that float32 alone gets wrong: gradients that one convolution hands on rounded to bfloat16
# make some variable differ by 76 times the noise and more, to TF32 (10 bits) by 11 to 401 times. Of the 52 convolutions
# of tiny-swish tried with TF32 one is not named itself (its own kernel differs by 4.9 times, those before it by 141).
FLOAT32_FACTOR = 5.0
MODULE_PARTS = 3  # of a variable's name: backbone.blocks.5, bifpn.cells.0, class_head.norms.1


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

    Batch norms use their moving statistics, as at inference. Memory is that of two whole backward passes and the
    maps of a third. Raises EffconvError without TensorFlow, or when the images do not suit the model.
    """
    config = model.config
    factors = coefficients(config, images.shape[2:], len(images))
    reference = {
        precision: gradients(config, variables, nhwc(images), factors, precision)
        for precision in ("float32", "float64")
    }
    own = {"float64": _torch_gradients(copied(model), images, factors, "float64")}
    network, maps = record_maps(copied(model))
    own["float32"] = _torch_gradients(network, images, factors, "float32")
    own["rounded"] = _torch_gradients(round_maps(copied(model), maps), images, factors, "float64")
    sides = []
    for rule in rules(config):
        if rule.tf.endswith(NOT_TRAINABLE):
            continue
        mine: dict[str, Array | None] = {}
        for precision, found in own.items():
            gradient = found.get(rule.torch)
            mine[precision] = None if gradient is None else rule.layout.to_tensorflow(gradient)
        sides.append(_Sides(rule.torch, rule.tf, mine, {each: found[rule.tf] for each, found in reference.items()}))
    noises = _noises(sides)
    return [_row(each, noises[_module(each.variable)]) for each in sides]


class _Sides(NamedTuple):
    """One variable's gradients in TensorFlow's shape, by precision; the candidate's "rounded" is for its noise."""

    variable: str
    official: str
    own: Mapping[str, Array | None]
    reference: Mapping[str, Array]


def _module(variable: str) -> str:
    return ".".join(variable.split(".")[:MODULE_PARTS])


def _noises(sides: Sequence[_Sides]) -> dict[str, Noise]:
    """By module, the largest relative noise of its variables; what cannot be measured widens no limit."""
    found: dict[str, Noise] = {}
    for each in sides:
        exact, rounded = each.own["float64"], each.own["rounded"]
        single, reference = (np.ravel(each.reference[precision]) for precision in ("float32", "float64"))
        scale, own, theirs = largest(reference), 0.0, 0.0
        if scale and exact is not None and rounded is not None and exact.size == rounded.size == reference.size:
            own = relative_error(np.ravel(rounded.astype(np.float32)), np.ravel(exact), scale)
            theirs = relative_error(single, reference, scale)
        own, theirs = (value if math.isfinite(value) else 0.0 for value in (own, theirs))
        module = _module(each.variable)
        before = found.get(module, Noise(0.0, 0.0, False))
        found[module] = Noise(max(before.candidate, own), max(before.reference, theirs), False)
    return found


def _row(sides: _Sides, noise: Noise) -> GradientRow:
    shape = sides.reference["float64"].shape
    flat: dict[tuple[str, str], Array] = {}
    for whose, arrays in (("candidate", sides.own), ("reference", sides.reference)):
        for precision in ("float32", "float64"):
            array = arrays[precision]
            if array is None or array.shape != shape:
                problem = "no gradient" if array is None else f"shape {array.shape} instead of {shape}"
                return GradientRow(sides.variable, sides.official, shape, {}, f"{problem} in the {whose}")
            flat[whose, precision] = np.ravel(array)
            if fault := fault_of(flat[whose, precision], whose):
                return GradientRow(sides.variable, sides.official, shape, {}, fault)
    scale = largest(flat["reference", "float64"])
    checks = {
        # Refuses another function: a kernel a millionth larger, another epsilon.
        "float64": Check(difference(flat["candidate", "float64"], flat["reference", "float64"], scale), FLOAT64_LIMIT),
        # Refuses what float32 alone gets wrong: a gradient rounded to fewer bits, scaled, or lost.
        "float32": Check(
            difference(flat["candidate", "float32"], flat["reference", "float32"], scale),
            FLOAT32_FACTOR * max(noise.candidate, noise.reference) + FLOAT64_LIMIT,
            noise,
        ),
    }
    return GradientRow(sides.variable, sides.official, shape, checks)


def _torch_gradients(
    network: EfficientDet, images: NDArray[np.float32], factors: Mapping[str, NDArray[np.float32]], precision: str
) -> dict[str, Array]:
    """{variable: gradient} of a network of our own, which is brought to `precision` first."""
    dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
    network.to(dtype).eval().requires_grad_(True)
    try:
        outputs = network(torch.from_numpy(images).to(dtype))
    except RuntimeError as error:
        raise EffconvError(f"the candidate's run stopped: {str(error).splitlines()[0]}") from error
    scalar = torch.zeros((), dtype=dtype)
    for kind, maps in zip(("class", "box"), outputs, strict=True):
        for level, output in zip(network.config.levels, maps, strict=True):
            factor = torch.from_numpy(factors[f"{kind}_outputs/{level}"]).to(dtype)
            scalar = scalar + (output.permute(0, 2, 3, 1) * factor).sum()
    scalar.backward()  # type: ignore[no-untyped-call]
    return {name: value.grad.numpy() for name, value in network.named_parameters() if value.grad is not None}
