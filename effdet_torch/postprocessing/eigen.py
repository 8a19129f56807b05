"""float32 exp and sigmoid, bit for bit as TensorFlow's CPU kernels (the Eigen library) compute them.

TensorFlow's wheels are built without fused multiply-add, so every product and every sum rounds by itself, and plain
tensor operations in Eigen's order give its bits on any machine: all 142,956 recorded scores (TensorFlow 2.15.1), and
live TensorFlow 2.21 on a million values. `torch.exp` and `torch.sigmoid` differ in the last bits of a quarter and of
half of them. TensorFlow computes the last few values of an array (fewer than eight) with the C library's exp instead,
within 1 ulp.

Source: Eigen `Core/arch/Default/GenericPacketMathFunctions.h: pexp_float`, `Core/functors/UnaryFunctors.h:
scalar_logistic_op<float>`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

EXP_HIGHEST = 88.723  # exp of more is infinite
EXP_LOWEST = -87.3365  # TensorFlow's threads flush what is below the smallest normal number, 2**-126, to zero
SIGMOID_ONE = 80.0  # adding 1 to e**x changes nothing any more, and it is still finite: the quotient is exactly 1
SIGMOID_HIGHEST = 16.6355324  # the first value whose sigmoid rounds to 1 in `sigmoid_halved`
LOG2_E = 1.44269504088896341
# ln 2 in two parts, so that subtracting whole multiples of it from x loses nothing.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
# Minimax polynomials of exp on [-ln 2 / 2, ln 2 / 2] above 1 + r; even powers, highest first, then odd ones.
EXP_EVEN = (1.37449637986719608306884765625e-3, 4.166965186595916748046875e-2, 0.49999988079071044921875)
EXP_ODD = (8.36894474923610687255859375e-3, 0.16666518151760101318359375)
HALVED_EVEN = (4.1898667812347412109375e-2, 0.49999141693115234375)
HALVED_ODD = (8.33471305668354034423828125e-3, 0.16666877269744873046875)


def exp(x: Tensor) -> Tensor:
    """e**x of float32 values, any shape: infinite above 88.723, zero where the result would be subnormal; NaN stays."""
    result = _exp_by_parts(x.clamp(max=EXP_HIGHEST), EXP_EVEN, EXP_ODD)
    result = torch.where(x > EXP_HIGHEST, torch.inf, result)
    return torch.where(x < EXP_LOWEST, 0.0, result)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e**-x) of float32 values as TensorFlow 2.15 computes it, which made the recorded official detections."""
    power = exp(x.clamp(max=SIGMOID_ONE))
    return power / (1 + power)


def sigmoid_halved(x: Tensor) -> Tensor:
    """The same as TensorFlow 2.21 computes it, from the square of e**(x/2): up to 6 ulp from `sigmoid`."""
    root = _exp_by_parts(x.clamp(max=SIGMOID_HIGHEST) * 0.5, HALVED_EVEN, HALVED_ODD)
    power = root * root
    return torch.where(x < EXP_LOWEST, 0.0, power / (1 + power))


def _exp_by_parts(x: Tensor, even: Sequence[float], odd: Sequence[float]) -> Tensor:
    """2**m * p(r), with x = m ln 2 + r and p the polynomial that `even` and `odd` are the coefficients of."""
    m = torch.floor(x * LOG2_E + 0.5)
    r = m * -LN2_HIGH + x
    r = m * -LN2_LOW + r
    square = r * r
    p = square * (r * _horner(square, odd) + _horner(square, even)) + (r + 1)
    half = torch.floor(m / 2)  # in two steps, because 2**128 is no float32 and 2**128 * p may be one
    return p * torch.exp2(half) * torch.exp2(m - half)


def _horner(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = x * value + coefficient
    return value
