"""Faults that only float32 has: in float64 the model is as it was. Each with the layer where it must be found first.

What graphics processors and fast paths do: fewer bits in a kernel's inputs, weights, output or sums, and kernels that
are wrong for one precision, one shape or one pixel.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effconv.convert.layers import layers
from effconv.effdet_torch.config import Config
from effconv.effdet_torch.model import EfficientDet
from faults import Fault

Round = Callable[[Tensor], Tensor]


def tf32(x: Tensor) -> Tensor:
    """Float32 rounded to TF32: eleven bits, float32's range."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def flushed(x: Tensor) -> Tensor:
    """Zero where float32 is below its smallest normal number."""
    return torch.where(x.abs() < torch.finfo(torch.float32).tiny, torch.zeros_like(x), x)


PRECISIONS: dict[str, Round] = {
    "TF32": tf32,
    "bfloat16": lambda x: x.bfloat16().float(),
    "float16": lambda x: x.half().float(),
}

# One layer of every kind that computes something. Keys are those of the smallest tiny models, which all have them.
LAYERS = {
    "the stem": "backbone.stem.conv",
    "a depthwise convolution": "backbone.blocks.3.depthwise",
    "an expansion": "backbone.blocks.5.expand",
    "a projection": "backbone.blocks.5.project",
    "a batch norm with activation": "backbone.blocks.5.expand_norm",
    "a batch norm": "backbone.blocks.5.project_norm",
    "a squeeze's mean": "backbone.blocks.5.squeeze_excite.mean",
    "a squeeze's first convolution": "backbone.blocks.5.squeeze_excite.reduce",
    "a squeeze's second convolution": "backbone.blocks.5.squeeze_excite.expand",
    "a gate": "backbone.blocks.5.squeeze_excite",
    "a resampling's projection": "bifpn.extra_levels.6.conv",
    "a fusion": "bifpn.cells.0.nodes.2.fuse",
    "an activation": "bifpn.cells.0.nodes.2.activation",
    "a node's convolution": "bifpn.cells.0.nodes.2.conv.pointwise",
    "a head's convolution": "class_head.convs.0.pointwise",
    "the class outputs": "class_head.predict.pointwise",
    "the box outputs": "box_head.predict.pointwise",
}
CONVOLUTIONS = {name for name, key in LAYERS.items() if name not in ("a fusion", "an activation", "a gate")} - {
    "a batch norm with activation",
    "a batch norm",
    "a squeeze's mean",
}


def in_float32(module: nn.Module, wrong: Callable[..., Any], dtype: torch.dtype = torch.float32) -> None:
    """Let `module` compute `wrong(right, *inputs)` in float32, or `dtype`, `right` being its own computation."""
    kind = type(module)

    def forward(self: nn.Module, x: Any, *more: Any) -> Any:
        first = x if isinstance(x, Tensor) else x[0]

        def right(*inputs: Any) -> Any:
            return kind.forward(self, *inputs)

        return wrong(right, x, *more) if first.dtype == dtype else right(x, *more)

    module.__class__ = type(f"Wrong{kind.__name__}", (kind,), {"forward": forward})


def _inputs(rounded: Round) -> Callable[..., Any]:
    def each(x: Any) -> Any:
        return rounded(x) if isinstance(x, Tensor) else [rounded(one) for one in x]

    return lambda right, x, *more: right(each(x), *more)


def _output(rounded: Round) -> Callable[..., Any]:
    return lambda right, *inputs: rounded(right(*inputs))


def _weights(module: nn.Conv2d, rounded: Round) -> Callable[..., Any]:
    def wrong(right: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            kept = module.weight.data
            module.weight.data = rounded(kept)
            try:
                return right(x)
            finally:
                module.weight.data = kept

    return wrong


def _sums_in_half(module: nn.Conv2d) -> Callable[..., Any]:
    """The products of every input channel are added to a float16 sum, one channel after another."""

    def wrong(right: Any, x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float16)
        for channel in range(x.shape[1]):
            part = F.conv2d(x[:, channel : channel + 1], module.weight[:, channel : channel + 1])
            total = total + part.half()
        return total.float() + (0 if module.bias is None else module.bias[:, None, None])

    return wrong


def _key(path: str, config: Config) -> str:
    """The first layer that a module computes; what a separable convolution's second half computes has its name."""
    names = (path, path.removesuffix(".pointwise"))
    return next(layer.key for layer in layers(config) if layer.module in names)


def _everywhere(suffix: str, wrong: Callable[..., Any]) -> Callable[[EfficientDet], None]:
    def plant_all(model: EfficientDet) -> None:
        for name, module in list(model.named_modules()):
            if name.endswith(suffix):
                in_float32(module, wrong)

    return plant_all


def float32_faults(config: Config) -> list[Fault]:
    """Every such fault that a model of `config` can have."""
    found = []
    kinds = {
        name: path
        for name, path in LAYERS.items()
        if (config.squeeze_excite or ".squeeze_excite" not in path)
        and (config.activation == "swish" or not path.endswith(".activation"))
    }

    def add(name: str, path: str, make: Callable[[nn.Module], Callable[..., Any]]) -> None:
        def plant_one(model: EfficientDet) -> None:
            module = model.get_submodule(path)
            in_float32(module, make(module))

        # What a gate is given, its mean is given first.
        first = f"{path}.mean" if name.endswith("inputs of a gate") else path
        found.append(Fault(name, plant_one, _key(first, config)))

    for kind, path in kinds.items():
        for precision, rounded in PRECISIONS.items():
            add(f"{precision} inputs of {kind}", path, lambda module, rounded=rounded: _inputs(rounded))
            add(f"{precision} output of {kind}", path, lambda module, rounded=rounded: _output(rounded))
            if kind in CONVOLUTIONS:
                add(f"{precision} weights of {kind}", path, lambda module, rounded=rounded: _weights(module, rounded))
    for kind in ("an expansion", "a projection", "a node's convolution", "the class outputs"):
        add(f"float16 sums in {kind}", kinds[kind], _sums_in_half)
    one, depthwise = kinds["an expansion"], kinds["a depthwise convolution"]
    shifted: Callable[..., Any] = lambda right, x: right(x).roll(1, 3)  # noqa: E731
    add("a depthwise convolution off by one pixel", depthwise, lambda module: shifted)
    add("an expansion 1.5 times as large", one, lambda module: lambda right, x: right(x) * 1.5)
    add("an expansion a ten-thousandth too large", one, lambda module: lambda right, x: right(x) * 1.0001)
    add("an expansion of zeros", one, lambda module: lambda right, x: torch.zeros_like(right(x)))
    add(
        "an expansion with two channels exchanged",
        one,
        lambda module: _exchanged,
    )
    add("one value of an expansion wrong", one, lambda module: _one_value)
    add("a fast path wrong for odd widths", "bifpn.cells.0.nodes.0.conv.pointwise", lambda module: _wrong_for_odd)
    found += [
        Fault("half as much from all depthwise kernels", _everywhere("depthwise", _half), _first(config, "depthwise")),
        Fault("zeros from all depthwise kernels", _everywhere("depthwise", _zeros), _first(config, "depthwise")),
        Fault(
            "all depthwise kernels in bfloat16",
            _everywhere("depthwise", _inputs(PRECISIONS["bfloat16"])),
            _first(config, "depthwise"),
        ),
    ]
    return found


def _half(right: Any, x: Tensor) -> Tensor:
    return right(x) * 0.5


def _zeros(right: Any, x: Tensor) -> Tensor:
    return torch.zeros_like(right(x))


def _first(config: Config, suffix: str) -> str:
    return next(layer.key for layer in layers(config) if layer.module.endswith(suffix))


def _exchanged(right: Any, x: Tensor) -> Tensor:
    found = right(x)
    return found[:, [1, 0, *range(2, found.shape[1])]]


def _one_value(right: Any, x: Tensor) -> Tensor:
    found = right(x).clone()
    found[0, 3, -1, -1] += 1e-3 * found.abs().max()
    return found


def _wrong_for_odd(right: Any, x: Tensor) -> Tensor:
    return right(x) if x.shape[3] % 2 == 0 else right(x).roll(1, 1)


# Convolutions without a bias, which would hide it: what they compute can be made smaller than any normal number.
FLUSHED = ("the stem", "a depthwise convolution", "an expansion", "a projection")


def flushes(model: EfficientDet, kind: str) -> Fault:
    """Denormals flushed to zero in one convolution of `model`, whose kernel is first made so small that it has some."""
    path = LAYERS[kind]
    with torch.no_grad():
        model.get_submodule(path).weight.mul_(torch.finfo(torch.float32).tiny / 4)

    def plant_flush(faulty: EfficientDet) -> None:
        in_float32(faulty.get_submodule(path), _output(flushed))

    return Fault(f"denormals flushed in {kind}", plant_flush, _key(path, model.config))


def plant(model: EfficientDet, name: str) -> str:
    """Plant the fault of that name in `model`; returns the layer where it must be found."""
    fault = next(fault for fault in float32_faults(model.config) if fault.name == name)
    fault.plant(model)
    return fault.layer
