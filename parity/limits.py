"""Where every tolerance of a comparison of layers comes from.

No limit is made of the error of what is judged. In float64 a limit tells one algorithm from another. In float32 a
layer's limit is a bound on rounding, element by element, in units of `u`: half the distance of 1 from the next number.
Higham and Mary, "A new approach to probabilistic rounding error analysis" (2019): a sum of K products, in any order, is
off by at most lambda * sqrt(K) * u times the sum of the products' magnitudes, but for a chance of 2 exp(-lambda**2 / 2)
for each operation; the worst case, which no layer comes near, has K for sqrt(K). `bounds.py` applies them; what clean
and faulty layers come to is measured by `tools/record_float32.py` and shown in docs/precision.md.
"""

import math

# The same function computed in float64 on both sides, relative to the layer's largest value. Measured over all models:
# at most a few 1e-12, from the order of summation alone. It refuses any other algorithm: the smallest mistakes ports
# make are 1e-7 and up.
FLOAT64_LIMIT = 1e-9

# Half the distance of 1 from the next number, by the name of the precision. TF32 has float32's range and eleven bits.
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "tf32": 2.0**-11, "bfloat16": 2.0**-8}

# Magnitudes below the smallest normal number are rounded to multiples of SUBNORMAL, and by functions such as exp and by
# TensorFlow's threads to zero: what is FLUSHED is as good as zero there.
SUBNORMAL = 2.0**-149
SMALLEST_NORMAL = 2.0**-126
UNDERFLOW = {  # smallest normal number and distance of the numbers below it
    "float32": (SMALLEST_NORMAL, SUBNORMAL),
    "bfloat16": (2.0**-126, 2.0**-133),
    "float16": (2.0**-14, 2.0**-24),
}
FLUSHED = 2.0**-110  # an input of SMALLEST_NORMAL times the weights of up to 2**16 in one output

# A sum of K products, or of K pixels of a mean: lambda of the bound above. It refuses a kernel that rounds what it
# multiplies or adds to TF32, bfloat16 or float16, and any that is wrong by more: those come to 250 units and up, sound
# ones to 2 sqrt(K).
LAMBDA = 4.0

# TensorFlow adds a channel's pixels one after another. Where many are equal, as in photographs, their rounding errors
# do not cancel: no sqrt(K) holds, and the worst case, K, refuses nothing. So the reference is allowed this many times
# what adding them so in float32 loses, computed apart from either side. It refuses a reference's mean in half
# precision.
SEQUENCE_FACTOR = 2.0

# Batch norm: the square root, the division, gamma, mean times that, and two sums, each rounded once: seven roundings of
# at most the terms' magnitudes. It refuses TF32 inputs or outputs of 2000 units.
NORM_OPERATIONS = 7.0

# Swish, sigmoid and the gate: exp, a sum, a division and a product, each relative to the result. TensorFlow's sigmoid
# by itself is good to 7.6 units, PyTorch's to 3. It refuses an output rounded to 11 bits (4000 units), and a sigmoid
# that is precise in absolute terms only.
FUNCTION_OPERATIONS = 16.0
SWISH_SLOPE = 1.1  # the largest slope of swish: what its input is off by counts at most that much

# A weighted fusion: product, division and sum of each term; its weights' sum rounds once per input, more where negative
# weights cancel. It refuses weights normalised in half precision; that a fusion is exact is another check.
FUSION_OPERATIONS = 4.0

# A whole network in float32 beside another, as multiples of what a float64 network loses whose every layer is rounded
# once and whose means are added one pixel after another (`rounded.py`): neither side's own run, and a layer rounds
# more than once. Sound pairs come to 5 times that, in the first layers. It refuses a wiring or a shape of map that
# only one precision gets wrong, where each layer by itself is sound.
ACCUMULATED_FACTOR = 12.0

# Where saturation cuts off all but small values of large maps (relu6 of images a hundred times too bright), rounding
# once costs little and sums much. There the reference's own float32 noise counts, times this: it is not the judged
# side, and each of its layers was found sound by itself. It refuses what the factor above does, in such maps too.
REFERENCE_FACTOR = 4.0

# A layer of a reference that lacks some before it, so that it is not fed the reference's own input: as multiples of
# what rounding it and those once costs. A convolution of 1152 products may round by 136 units, and comes to 20. It
# refuses TF32 and half precision, 500 units and up.
UNNAMED_FACTOR = 64.0


def accumulated_limit(expected: float, reference_noise: float = 0.0) -> float:
    """Largest error of a whole run up to a layer, where rounding every layer once costs `expected`.

    `reference_noise` is the largest so far of a reference whose every layer is sound; 0 where it is not known to be.
    """
    return max(ACCUMULATED_FACTOR * expected, REFERENCE_FACTOR * reference_noise) + FLOAT64_LIMIT


def unnamed_limit(expected: float) -> float:
    """Largest local error where layers before are not in the reference, and rounding them once costs `expected`."""
    return UNNAMED_FACTOR * expected + FLOAT64_LIMIT


def products_factor(count: int) -> float:
    """Units that a sum of `count` products may be off by, of the sum of the products' magnitudes."""
    return LAMBDA * math.sqrt(count)


def mean_factor(count: int) -> float:
    """Units that a mean of `count` values may be off by, of the mean of their magnitudes: a sum, divided once."""
    return LAMBDA * math.sqrt(count) + 1
