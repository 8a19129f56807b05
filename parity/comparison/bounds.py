"""How far a sound float32 computation of a layer may be from float64 on the same input, element by element.

A float64 model is watched while it runs: at each layer the bound of `limits.py` is evaluated with the layer's weights
and the input it was given. The candidate's float32 run has no part in it.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...convert.layers import Layer
from ...effdet_torch.backbone import ChannelMean, MBConv, SqueezeExcite
from ...effdet_torch.bifpn import Resample, SeparableConv, SumFusion, WeightedFusion
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.ops import BatchNorm, BatchNormActivation
from ..copying import copied
from ..limits import (
    FUNCTION_OPERATIONS,
    FUSION_OPERATIONS,
    NORM_OPERATIONS,
    SEQUENCE_FACTOR,
    SMALLEST_NORMAL,
    SWISH_SLOPE,
    UNDERFLOW,
    UNITS,
    mean_factor,
    products_factor,
)
from ..mistakes.modules import BatchStatistics, SoftmaxFusion
from .rounded import SequentialMean

KEPT = 1 + 2.0**-20  # a bound is kept in float32, and must not be rounded down
PART = 2**22  # values of a map whose bound is computed at once: 32 MB in float64
# Layers each of whose values depends on its input at the same pixel alone.
PIXEL_BY_PIXEL = (BatchNorm, MBConv, SqueezeExcite, nn.SiLU, nn.ReLU6, nn.ReLU, nn.Identity)
Bound = Tensor  # as the layer's output, (B, C, H, W), in float32; zero where nothing may round


class Bounds:
    """The bounds of the layers of `model`, a float64 model that runs on inputs float32 can represent.

    After the model has computed a layer, `take(module)` is its bound in `precision`, in arithmetic with that unit.
    """

    def __init__(self, model: EfficientDet, layers: Sequence[Layer], precision: str = "float32"):
        self._unit = UNITS[precision]
        self._smallest, self._subnormal = UNDERFLOW[precision]
        # A run in half precision is given the same input, rounded; so are its weights.
        self._given = 0.0 if precision == "float32" else 2.0
        self._found: dict[str, Bound] = {}
        self._in_sequence: dict[str, Bound] = {}
        # The sum of a residual head's maps is rounded, once per repeat, before the next convolution takes it.
        self._sums = model.config.head_repeats if model.config.residual_heads else 0
        self._logit = torch.zeros(())  # of the gate at hand
        modules = dict(model.named_modules())
        self._handles = []
        for path in dict.fromkeys(layer.module for layer in layers):
            module = modules[path]
            watched = module.pointwise if isinstance(module, SeparableConv) else module
            self._handles.append(watched.register_forward_hook(partial(self._watch, path)))

    def take(self, path: str) -> Bound:
        """The bound of the layer whose module was computed last."""
        return self._found.pop(path)

    def take_in_sequence(self, path: str, bound: Bound) -> Bound:
        """The bound for a side that may add the pixels of a mean one after another; other layers' is `bound`."""
        return self._in_sequence.pop(path, bound)

    def close(self) -> None:
        """Watch no longer."""
        for handle in self._handles:
            handle.remove()

    def _watch(self, path: str, called: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        with torch.inference_mode():
            bound = torch.empty_like(output, dtype=torch.float32)
            for part, units in self._parts(path, called, inputs, output):
                bound[part] = units.mul_(self._unit * KEPT)
                del units
            self._found[path] = bound
        if isinstance(called, ChannelMean):
            self._in_sequence[path] = bound + _sequential_error(inputs[0], output)

    def _parts(
        self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor
    ) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """(which part of the output, its bound in units).

        A map of d7x takes a gigabyte in float64, and each product or sum of maps one more. So channels of a depthwise
        convolution, and rows of a layer that computes each pixel by itself, are taken a few at a time.
        """
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels:
            for channels in _slices(output, 1):
                part: tuple[slice, ...] = (slice(None), channels)
                yield part, self._bound(path, _of_channels(module, channels), (inputs[0][part],), output[part])
        elif isinstance(module, PIXEL_BY_PIXEL) and not isinstance(module, BatchStatistics):
            for rows in _slices(output, 2):
                part = (slice(None), slice(None), rows)
                yield part, self._bound(path, module, (inputs[0][part],), output[part])
        else:
            yield (slice(None),), self._bound(path, module, inputs, output)

    def _bound(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """In units, in memory of its own; what is lost to underflow is added by each."""
        if isinstance(module, (WeightedFusion, SumFusion)):
            return self._fusion(module, inputs[0])
        x: Tensor = inputs[0]
        if path.endswith("squeeze_excite.expand"):
            self._logit = output
        if isinstance(module, nn.Conv2d):
            # What its input itself was rounded by: squeeze-excite's activation, or the sums of a residual head.
            given = FUNCTION_OPERATIONS if path.endswith("squeeze_excite.expand") else self._sums
            given += self._given
            return self._products(module, x, given)
        if isinstance(module, BatchNorm):
            return self._norm(module, x, output)
        if isinstance(module, ChannelMean):
            pixels = x.shape[2] * x.shape[3]
            return x.abs().mean((2, 3), keepdim=True).mul_(mean_factor(pixels)).add_(self._lost(pixels))
        if isinstance(module, MBConv):
            if self._given and module.has_skip:  # both terms of the sum were rounded
                return output.abs().mul_(1 + self._given).add_(x.abs(), alpha=2 * self._given)
            return output.abs().mul_(float(module.has_skip) + self._given)
        if isinstance(module, Resample):
            # Chosen or copied values are the same in any precision. Steps that interpolate are known mistakes'.
            if type(module).upsample is Resample.upsample:
                return output.abs().mul_(self._given)
            projected = module.norm.forward(module.conv.forward(x))  # unwatched
            return FUNCTION_OPERATIONS * module.resize(projected.abs(), inputs[1])
        if isinstance(module, SqueezeExcite):
            # In half precision logit and map were rounded; a logit z so changes sigmoid(z) by |z| times that.
            factor = FUNCTION_OPERATIONS + self._given * (1 + self._logit.abs())
            return output.abs().mul_(factor).add_(self._flushed(x))
        if isinstance(module, (nn.ReLU6, nn.ReLU, nn.Identity)):
            return output.abs().mul_(self._given)
        swish = output.abs().mul_(FUNCTION_OPERATIONS).add_(self._flushed(x))
        return swish.add_(x.abs(), alpha=self._given * SWISH_SLOPE) if self._given else swish

    def _products(self, module: nn.Conv2d, x: Tensor, given: float) -> Tensor:
        """factor * (|W| conv |x| + |b|), by the module's own padding: a copy of it with its weights' magnitudes."""
        twin = copied(module)
        for weight in twin.parameters():
            weight.abs_()
        count = module.weight[0].numel()
        return twin.forward(x.abs()).mul_(products_factor(count) + given).add_(self._lost(count))

    def _norm(self, module: BatchNorm, x: Tensor, output: Tensor) -> Tensor:
        mean, variance, operations = module.running_mean, module.running_var, NORM_OPERATIONS + 2 * self._given
        if isinstance(module, BatchStatistics):
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
            operations += products_factor(x[:, 0].numel())
        assert mean is not None
        assert variance is not None
        scale = module.weight / (variance + module.eps).sqrt()
        shift = (mean * scale).abs() + module.bias.abs()
        terms = x.abs().mul_(_per_channel(scale.abs())).add_(_per_channel(shift))
        found = (operations * terms).add_(self._lost(2))
        activation = module.activation if isinstance(module, BatchNormActivation) else None
        if isinstance(activation, nn.SiLU):
            found.mul_(SWISH_SLOPE).add_(self._flushed(terms))
            del terms
            return found.add_(output.abs(), alpha=FUNCTION_OPERATIONS)
        return found

    def _fusion(self, module: nn.Module, maps: Sequence[Tensor]) -> Tensor:
        magnitudes = [each.abs() for each in maps]
        if isinstance(module, (SumFusion, SoftmaxFusion)):
            softmax = FUNCTION_OPERATIONS if isinstance(module, SoftmaxFusion) else 0.0
            return (len(maps) + self._given + softmax) * module.forward(magnitudes) + self._lost(len(maps))
        assert isinstance(module, WeightedFusion)
        weights = [module.rectify(weight) for weight in module.edge_weights]
        total = module.total(weights)
        terms = [
            module.scale(each, weight.abs(), total.abs()) for each, weight in zip(magnitudes, weights, strict=True)
        ]
        # Where negative weights cancel in the total, what they round by is all the larger a part of it.
        cancelled = sum((weight.abs() for weight in weights), start=total.abs()) / total.abs()
        factor = FUSION_OPERATIONS + self._given + len(maps) * (1 + cancelled)
        return factor * sum(terms[1:], start=terms[0]) + self._lost(len(maps))

    def _lost(self, count: int) -> float:
        """What `count` operations may lose to gradual underflow, in units."""
        return (count + 2) * self._subnormal / self._unit

    def _flushed(self, x: Tensor) -> Tensor:
        """What a function of `x` may lose whose results below the smallest normal number are zero, in units."""
        return x.abs().add_(1).mul_(self._smallest / self._unit)


def _slices(output: Tensor, axis: int) -> Iterator[slice]:
    """Along `axis`, so that each part of a map has about PART values."""
    size = output.shape[axis]
    step = max(1, PART * size // max(1, output.numel()))
    return (slice(start, start + step) for start in range(0, size, step))


def _of_channels(module: nn.Conv2d, channels: slice) -> nn.Conv2d:
    """A depthwise convolution of some of its channels, padded as it is."""
    twin = copied(module)
    twin.weight = nn.Parameter(module.weight[channels])
    if module.bias is not None:
        twin.bias = nn.Parameter(module.bias[channels])
    twin.in_channels = twin.out_channels = twin.groups = len(twin.weight)
    return twin


def _sequential_error(x: Tensor, mean: Tensor) -> Bound:
    """SEQUENCE_FACTOR times what adding pixel after pixel in float32 loses, the largest of all channels.

    Rounding errors of equal values do not cancel, and photographs have areas of one colour: no bound by sqrt(K) holds.
    """
    magnitudes = x.abs().mean((2, 3), keepdim=True)
    lost = (SequentialMean().forward(x) - mean).abs() / magnitudes.clamp(min=SMALLEST_NORMAL)
    return (SEQUENCE_FACTOR * lost.amax(1, keepdim=True) * magnitudes).float()


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
