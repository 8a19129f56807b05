"""Do moving averages look as training leaves them? Told by their checksums, without reading a tensor."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .layout import Array
from .rules import Rule
from .sources import checksum

# What the official code creates these variables as, and averages alike.
INITIAL_VALUES = {"beta": 0.0, "gamma": 1.0, "moving_mean": 0.0, "moving_variance": 1.0}
KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


class AveragesWarning(UserWarning):
    """Moving averages that training can hardly have left; the conversion goes on."""


class Averages(NamedTuple):
    """How many of the moving averages that were chosen equal something they should not. `warning` is "" or a line."""

    chosen: int
    initial: int  # norm variables that equal their initial value in every element
    raw: int  # equal to the raw weight, bit for bit
    warning: str


def examine(names: Iterable[tuple[Rule, str, str]], checksums: Mapping[str, int], ours: bool) -> Averages:
    """Examine (rule, name of the average, name of the raw weight) of every variable of a model.

    Suspicious is a kind of norm variable of which at least half are initial: training moves every norm but the box
    head's on levels where nothing was ever matched, and the class head has as many norms as the box head, so fewer than
    half can stay. (The seven releases whose checksums are on record have none; the detector that ships has 3 of 82.)
    Suspicious are kernels of which at least half equal the raw ones: a training step moves each kernel, and its
    average by a ten-thousandth of that. (None does in the seven releases, though betas and means are equal there, so
    only kernels are judged.) All equal is no sign in a checkpoint of `ours`: effconv writes a single set as both.
    """
    rows = list(names)
    of_kind: dict[str, list[tuple[bool, bool]]] = {}
    made: dict[tuple[float, tuple[int, ...]], int] = {}
    for rule, average, raw in rows:
        kind = rule.tf.rpartition("/")[2]
        found = checksums.get(average)
        initial = kind in INITIAL_VALUES and found == _full(INITIAL_VALUES[kind], rule.shape, made)
        same = found is not None and found == checksums.get(raw)
        of_kind.setdefault("kernel" if kind in KERNELS else kind, []).append((initial, same))
    judged = {kind: each for kind, each in of_kind.items() if kind in (*INITIAL_VALUES, "kernel")}
    unmoved = {kind: sum(initial for initial, _ in each) for kind, each in judged.items()}
    suspicious = [
        f"{count} of {len(judged[kind])} of kind {kind}"
        for kind, count in unmoved.items()
        if 2 * count >= len(judged[kind])
    ]
    everything = [row for each in of_kind.values() for row in each]
    initial_count, raw_count = sum(row[0] for row in everything), sum(row[1] for row in everything)
    parts = []
    if suspicious:
        parts.append(
            f"{initial_count} of the {len(rows)} moving averages equal their initial values ({', '.join(suspicious)}), "
            "which training does not leave so; compare with the raw weights"
        )
    kernels = judged.get("kernel", [])
    meant = ours and raw_count == len(rows)
    if not meant and kernels and 2 * sum(same for _, same in kernels) >= len(kernels):
        parts.append(
            f"{raw_count} of the {len(rows)} moving averages equal the raw weights bit for bit: averaging never ran, "
            "or an export wrote one set of weights twice"
        )
    return Averages(len(rows), initial_count, raw_count, "; ".join(parts))


def _full(value: float, shape: tuple[int, ...], made: dict[tuple[float, tuple[int, ...]], int]) -> int:
    if (value, shape) not in made:
        filled: Array = np.full(shape, value, np.float32)
        made[value, shape] = checksum(filled)
    return made[value, shape]
