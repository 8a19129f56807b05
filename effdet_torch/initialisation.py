"""Random values to train a model from, distributed as the official ones.

Source: google/automl `backbone/efficientnet_model.py: conv_kernel_initializer`; `tf2/efficientdet_keras.py: ClassNet,
BoxNet, OpAfterCombine, ResampleFeatureMap`, the last two having Keras's default, Glorot's uniform distribution.
"""

import math

import torch
from torch import Tensor, nn

CLASS_PRIOR = 0.01  # an untrained model gives every class this probability (focal loss paper, section 4.1)
TRUNCATED = 0.8796256610342398  # standard deviation of a normal distribution cut off at two of them


@torch.no_grad()
def initialise(backbone: nn.Module, bifpn: nn.Module, heads: list[nn.Module], class_bias: Tensor) -> None:
    """Set kernels and biases in place; norms and fusion weights have their values already.

    Kernels of the backbone are normal, sqrt(2 / (k * k * outputs)); of the BiFPN uniform; of the heads normal,
    sqrt(1 / inputs), cut off at two standard deviations. A depthwise kernel counts as having one output. A network on
    the meta device is left alone.
    """
    # It has no values, and PyTorch would import 500 modules to know what it need not do: seconds of every load.
    if class_bias.is_meta:
        return
    for part, kernel_ in ((backbone, _normal_), (bifpn, _uniform_), *((head, _truncated_) for head in heads)):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                kernel_(module)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    nn.init.constant_(class_bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))


def _fans(conv: nn.Conv2d) -> tuple[int, int]:
    """(inputs, outputs) as TensorFlow counts them from a kernel's shape, which for a depthwise one is (k, k, C, 1)."""
    outputs, inputs, height, width = conv.weight.shape
    if conv.groups > 1:
        inputs, outputs = outputs, inputs
    return inputs * height * width, outputs * height * width


def _normal_(conv: nn.Conv2d) -> None:
    nn.init.normal_(conv.weight, std=math.sqrt(2 / _fans(conv)[1]))


def _uniform_(conv: nn.Conv2d) -> None:
    limit = math.sqrt(6 / sum(_fans(conv)))
    nn.init.uniform_(conv.weight, -limit, limit)


def _truncated_(conv: nn.Conv2d) -> None:
    deviation = math.sqrt(1 / _fans(conv)[0]) / TRUNCATED
    nn.init.trunc_normal_(conv.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
