"""The only file that imports TensorFlow: the official side of every comparison.

The official computation, written in TensorFlow's own operations and fed by official variable names. It shares no code
with `effdet_torch`: of a model it knows the hyper-parameters and the variables' shapes, nothing else. TensorFlow is
imported inside `import_tensorflow`, so importing this module is cheap; `pip install tensorflow` brings it.

Source: google/automl `efficientdet/tf2/efficientdet_keras.py`, `backbone/efficientnet_model.py`, `tf2/fpn_configs.py`.
"""

import math
import os
import sys
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...effdet_torch.config import Config
from ...errors import EffconvError
from .notes import without_notes
from .wide_variables import WideVariables

Tensor = Any  # a tf.Tensor; TensorFlow is not imported here
# Yields (official name, activation (B, H, W, C)) per layer; a tensor sent in, in a list that gives it up, takes the
# activation's place. Returns the last of them.
Replacement = list[Tensor]
Steps = Generator[tuple[str, Tensor], Replacement | None, Tensor]
MapSteps = Generator[tuple[str, Tensor], Replacement | None, list[Tensor]]  # the same, returning several maps

EPSILON = 1e-3  # of batch normalization
FUSION_EPSILON = 1e-4


def import_tensorflow() -> Any:
    """The tensorflow module, started up. Raises EffconvError without it, and where it is broken.

    Its optional oneDNN kernels are off, as they were when the official code's runs were recorded, and its notes about
    this machine's hardware are left out.
    """
    if imported := sys.modules.get("tensorflow"):
        return imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        with without_notes():
            import tensorflow

            tensorflow.constant(0)  # the first operation writes notes too
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise _broken(error) from error
        raise EffconvError("TensorFlow is needed here and not installed: pip install tensorflow") from error
    except Exception as error:  # whatever a library of another version than it was made for makes it raise
        raise _broken(error) from error
    return tensorflow


def _broken(error: Exception) -> EffconvError:
    reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return EffconvError(
        f"TensorFlow is installed and cannot be imported ({reason}); pip install --force-reinstall tensorflow"
    )


def _layer(name: str, activation: Tensor) -> Steps:
    replacement = yield name, activation
    return replacement.pop() if replacement else activation


class OfficialNetwork:
    """The official EfficientDet with given variables, in one precision, at inference.

    `variables` are float32 arrays by their official TF1 names, without the model's moving averages' suffix; `precision`
    is "float32" or "float64". Raises KeyError where a variable is missing.
    """

    def __init__(self, config: Config, variables: Mapping[str, NDArray[np.float32]], precision: str):
        self.tensorflow = import_tensorflow()
        self.config = config
        cast = self.tensorflow.cast
        # A constant made from an array takes its memory twice; what a cast makes of it does not.
        self.variables: Mapping[str, Tensor] = {
            name: cast(cast(self.tensorflow.constant(array), "float64"), precision) for name, array in variables.items()
        }
        self.outputs: dict[str, Tensor] = {}
        self._activation = {"swish": self._swish, "relu6": self.tensorflow.nn.relu6}[config.activation]

    def in_float64(self) -> "OfficialNetwork":
        """The same network in float64. Its variables are cast when they are used: d7x's would take 0.6 GB."""
        wide = OfficialNetwork(self.config, {}, "float64")
        wide.variables = WideVariables(self.variables, self.tensorflow)
        return wide

    def run(self, images: Tensor) -> Steps:
        """Yield every layer for `images` (B, H, W, 3). When done, `outputs` holds class and box outputs by name."""
        config = self.config
        features = yield from self._backbone(images)
        for level in range(6, config.max_level + 1):
            lower = features[-1]
            size = [(side - 1) // 2 + 1 for side in lower.shape[1:3]]
            features.append((yield from self._resample(f"resample_p{level}", lower, size)))
        for cell in range(config.fpn_cells):
            features = yield from self._cell(f"fpn_cells/cell_{cell}", features)
        yield from self._head("class", features)
        yield from self._head("box", features)

    # --- operations ---------------------------------------------------------------------------------------------------

    def _conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        kernel = self.variables[f"{name}/kernel"]
        return self.tensorflow.nn.conv2d(x, kernel, stride, "SAME", name=f"{name}/Conv2D")

    def _conv_with_bias(self, name: str, x: Tensor) -> Tensor:
        return self._bias(name, self._conv(name, x))

    def _bias(self, name: str, x: Tensor) -> Tensor:
        return self.tensorflow.nn.bias_add(x, self.variables[f"{name}/bias"], name=f"{name}/BiasAdd")

    def _depthwise(self, name: str, kernel: str, x: Tensor, stride: int = 1) -> Tensor:
        filters, strides = self.variables[kernel], [1, stride, stride, 1]
        return self.tensorflow.nn.depthwise_conv2d(x, filters, strides, "SAME", name=name)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        gamma, beta, mean, variance = (
            self.variables[f"{name}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = self.tensorflow.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)
        return self.tensorflow.identity(x, name=f"{name}/FusedBatchNormV3")

    def _swish(self, x: Tensor) -> Tensor:
        return x * self.tensorflow.sigmoid(x)  # tf.nn.silu is the same with more memory

    def _mean(self, name: str, x: Tensor) -> Tensor:
        return self.tensorflow.reduce_mean(x, [1, 2], keepdims=True, name=name)

    # --- backbone -----------------------------------------------------------------------------------------------------

    def _backbone(self, x: Tensor) -> MapSteps:
        config, scope = self.config, self.config.backbone
        name = f"{scope}/stem/conv2d"
        x = yield from _layer(f"{name}/Conv2D", self._conv(name, x, 2))
        x = self._norm(f"{scope}/stem/tpu_batch_normalization", x)
        x = self._activation(x)
        x = yield from _layer("backbone/stem", x)
        strides_and_ratios = []
        for index, stage in enumerate(config.stages):
            scaled = config.scale_ends or 0 < index < len(config.stages) - 1
            repeats = math.ceil(stage.repeats * config.depth) if scaled else stage.repeats
            strides_and_ratios += [(stage.stride if not i else 1, stage.expand_ratio) for i in range(repeats)]
        features: list[Tensor] = []
        for index, (stride, ratio) in enumerate(strides_and_ratios):
            x = yield from self._block(index, x, stride, ratio)
            is_last = index + 1 == len(strides_and_ratios)
            if is_last or strides_and_ratios[index + 1][0] == 2:
                features.append(x)
        return features[config.min_level - 1 : config.max_level]

    def _block(self, index: int, x: Tensor, stride: int, ratio: int) -> Steps:
        scope, endpoint = f"{self.config.backbone}/blocks_{index}", f"backbone/block_{index}"
        # Layers are numbered as they were made, so an expansion shifts the names of those after it.
        norms = [f"{scope}/tpu_batch_normalization{suffix}" for suffix in ("", "_1", "_2")]
        project, depthwise = f"{scope}/conv2d_1" if ratio != 1 else f"{scope}/conv2d", f"{scope}/depthwise_conv2d"
        before = x
        if ratio != 1:
            x = yield from _layer(f"{scope}/conv2d/Conv2D", self._conv(f"{scope}/conv2d", x))
            x = self._norm(norms.pop(0), x)  # one name for all, so that what is used up is given up
            x = self._activation(x)
            x = yield from _layer(f"input of {depthwise}/depthwise", x)
        operation = f"{depthwise}/depthwise"
        x = self._depthwise(operation, f"{depthwise}/depthwise_kernel", x, stride)
        x = yield from _layer(operation, x)
        gated = self.config.squeeze_excite
        consumer = f"{scope}/se/Mean" if gated else f"{project}/Conv2D"
        x = self._norm(norms.pop(0), x)
        x = self._activation(x)
        x = yield from _layer(f"input of {consumer}", x)
        if gated:
            x = yield from self._squeeze_excite(f"{scope}/se", x)
        x = yield from _layer(f"{endpoint}/expansion_output", x)
        x = self._conv(project, x)
        x = yield from _layer(f"{project}/Conv2D", x)
        norm = norms.pop(0)
        x = yield from _layer(f"{norm}/FusedBatchNormV3", self._norm(norm, x))
        if stride == 1 and before.shape[-1] == x.shape[-1]:
            x = x + before
        return (yield from _layer(endpoint, x))

    def _squeeze_excite(self, name: str, x: Tensor) -> Steps:
        gate = self._mean(f"{name}/Mean", x)
        gate = yield from _layer(f"{name}/Mean", gate)
        gate = yield from _layer(f"{name}/conv2d/BiasAdd", self._conv_with_bias(f"{name}/conv2d", gate))
        gate = self._conv_with_bias(f"{name}/conv2d_1", self._activation(gate))
        gate = yield from _layer(f"{name}/conv2d_1/BiasAdd", gate)
        return self.tensorflow.sigmoid(gate) * x

    # --- BiFPN --------------------------------------------------------------------------------------------------------

    def _resample(self, name: str, x: Tensor, size: list[int]) -> Steps:
        if f"{name}/conv2d/kernel" in self.variables:
            x = yield from _layer(f"{name}/conv2d/BiasAdd", self._conv_with_bias(f"{name}/conv2d", x))
            x = yield from _layer(f"{name}/bn", self._norm(f"{name}/bn", x))
        given = list(x.shape[1:3])
        if given[0] > size[0] and given[1] > size[1]:
            strides = [(had - 1) // has + 1 for had, has in zip(given, size, strict=True)]
            window = [stride + 1 for stride in strides]
            pooled = f"{name}/max_pooling2d/MaxPool"
            x = self.tensorflow.nn.max_pool2d(x, window, strides, "SAME", name=pooled)
        elif given != size:
            if given[0] > size[0] or given[1] > size[1]:
                raise EffconvError(f"{name}: a {given[0]}x{given[1]} map cannot become {size[0]}x{size[1]}")
            x = self.tensorflow.raw_ops.ResizeNearestNeighbor(
                images=x, size=size, align_corners=False, half_pixel_centers=False, name=f"{name}/ResizeNearestNeighbor"
            )
        return (yield from _layer(name, x))

    def _cell(self, name: str, features: list[Tensor]) -> MapSteps:
        # One list of maps that grows; per level, the places of its maps so far.
        count = len(features)
        maps, places = list(features), [[place] for place in range(count)]
        downward = [(level, [places[level], places[level + 1]]) for level in reversed(range(count - 1))]
        upward = [(level, [places[level], places[level - 1]]) for level in range(1, count)]
        for node, (level, (own, other)) in enumerate(downward + upward):
            sources = [own[-1], other[-1]] if node < count - 1 else [*own, other[-1]]
            maps.append((yield from self._node(f"{name}/fnode{node}", maps, sources, list(features[level].shape[1:3]))))
            own.append(len(maps) - 1)
        return [maps[own[-1]] for own in places]

    def _node(self, name: str, maps: list[Tensor], sources: list[int], size: list[int]) -> Steps:
        tensorflow, count = self.tensorflow, len(maps)
        inputs = []
        for place, source in enumerate(sources):
            inputs.append((yield from self._resample(f"{name}/resample_{place}_{source}_{count}", maps[source], size)))
        if self.config.fusion == "fastattn":
            names = [f"{name}/WSM" + (f"_{place}" if place else "") for place in range(len(sources))]
            weights = [tensorflow.nn.relu(self.variables[weight]) for weight in names]
            total = tensorflow.add_n(weights) + FUSION_EPSILON
            inputs = [x * weight / total for x, weight in zip(inputs, weights, strict=True)]
        x = yield from _layer(f"{name}/fused", tensorflow.add_n(inputs))
        combine = f"{name}/op_after_combine{count}"
        conv = f"{combine}/conv"
        operation = f"{conv}/separable_conv2d/depthwise"
        relu6 = self.config.activation == "relu6"
        x = yield from _layer(f"{combine}/Relu6" if relu6 else f"input of {operation}", self._activation(x))
        x = yield from _layer(operation, self._depthwise(operation, f"{conv}/depthwise_kernel", x))
        x = yield from _layer(f"{conv}/BiasAdd", self._pointwise(conv, x))
        return (yield from _layer(f"{combine}/bn", self._norm(f"{combine}/bn", x)))

    # --- heads --------------------------------------------------------------------------------------------------------

    def _pointwise(self, name: str, x: Tensor, call: str = "") -> Tensor:
        kernel = self.variables[f"{name}/pointwise_kernel"]
        x = self.tensorflow.nn.conv2d(x, kernel, 1, "SAME", name=f"{name}{call}/separable_conv2d")
        return self.tensorflow.nn.bias_add(x, self.variables[f"{name}/bias"], name=f"{name}{call}/BiasAdd")

    def _separable(self, name: str, output: str, call: str, x: Tensor) -> Steps:
        operation = f"{name}{call}/separable_conv2d/depthwise"
        x = yield from _layer(operation, self._depthwise(operation, f"{name}/depthwise_kernel", x))
        return (yield from _layer(output, self._pointwise(name, x, call)))

    def _head(self, kind: str, features: list[Tensor]) -> Generator[tuple[str, Tensor], Replacement | None, None]:
        for place, x in enumerate(features):
            level, call = self.config.min_level + place, f"_{place}" if place else ""
            for repeat in range(self.config.head_repeats):
                name, before = f"{kind}_net/{kind}-{repeat}", x
                x = yield from self._separable(name, f"{name}{call}/BiasAdd", call, x)
                norm = f"{name}-bn-{level}"
                x = yield from _layer(norm, self._activation(self._norm(norm, x)))
                x = x + before if self.config.residual_heads and repeat else x
            output = f"{kind}_outputs/{level}"
            self.outputs[output] = yield from self._separable(f"{kind}_net/{kind}-predict", output, call, x)


def gradients(
    config: Config,
    variables: Mapping[str, NDArray[np.float32]],
    images: NDArray[np.float32],
    coefficients: Mapping[str, NDArray[np.float32]],
    precision: str,
) -> dict[str, NDArray[Any]]:
    """{official name: gradient in TensorFlow's shape} of the sum of every output times its coefficients.

    `images` are (B, H, W, 3); `coefficients` have each output's name and shape. Raises EffconvError without TensorFlow.
    """
    tensorflow = import_tensorflow()
    network = OfficialNetwork(config, variables, precision)
    with tensorflow.GradientTape() as tape:
        tape.watch(list(network.variables.values()))
        for _ in network.run(tensorflow.cast(images, precision)):
            pass
        scalar = tensorflow.add_n(
            [
                tensorflow.reduce_sum(network.outputs[name] * tensorflow.cast(factor, precision))
                for name, factor in coefficients.items()
            ]
        )
    found = tape.gradient(scalar, network.variables, unconnected_gradients="zero")
    return {name: gradient.numpy() for name, gradient in found.items()}
