"""Whether contestants of a benchmark do the same work: looked at before a time is taken, so that no ratio is of others.

Arrays that both sides compute exactly have to be equal. Outputs of a network in float32 may be off float64's by what
rounding every layer once costs, times a factor (`limits.accumulated_limit`). Lists of detections may differ by what
rounding makes our own list differ. No limit is made of how far the contestants are apart.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...effdet_torch.model import EfficientDet
from ...errors import EffconvError
from ..comparison.compare import precisions
from ..comparison.engine import exact_outputs, expected_outputs, output_error
from ..comparison.moved_outputs import LOST_FACTOR, moved
from ..limits import accumulated_limit

SAME_BOX = 0.1  # pixels of the original image

# However much rounding moves: a contestant with less than half of our detections proves nothing. It refuses another
# model's detections, of which none are ours, where near-ties abound because the weights are random.
MOST_LOST = 0.5
LEAST_WRONG = 0.5  # of the largest value: zeros are off by all of it

Detections = Sequence[Any]  # boxes (M, 4) yxyx, scores (M,), categories (M,)
Lists = tuple[list[Tensor], list[Tensor]]  # class logits and box codes by level


class Work(NamedTuple):
    """What a network has to give for one image."""

    exact: Lists  # float64
    costs: list[float]  # of rounding every layer once, of the largest value: classes, boxes


def other_work(name: str, expected: str, found: str) -> EffconvError:
    """The error of a contestant that does other work than ours."""
    return EffconvError(f"{name}: does other work than effconv, so no time is compared: expected {expected}, {found}")


def require_equal(name: str, what: str, pairs: Iterable[tuple[Any, Any]]) -> int:
    """How many pairs there are of (found, expected) arrays. Raises EffconvError where one is not equal bit for bit."""
    count = 0
    for found, expected in pairs:
        one, other = np.asarray(found), np.asarray(expected)
        if one.shape != other.shape or one.tobytes() != other.astype(one.dtype).tobytes():
            same_shape = one.shape == other.shape
            detail = f"{(one != other).mean():.1%} of values differ" if same_shape else f"found shape {one.shape}"
            raise other_work(name, f"{what} of number {count + 1} equal, shape {other.shape}", detail)
        count += 1
    return count


def work_of(model: EfficientDet, images: Tensor) -> list[Work]:
    """What `model` has to give for each of `images` (B, 3, H, W), one at a time: float64 takes much memory.

    What rounding costs is found with the first of them: it is the network's, and takes longer than all the rest.
    """
    first, costs = expected_outputs(model, images[:1])
    double = precisions(model).double
    rest = [exact_outputs(double, images[place : place + 1]) for place in range(1, len(images))]
    return [Work(exact, costs) for exact in (first, *rest)]


def require_outputs(name: str, found: Any, work: Sequence[Work], coarser: int = 1) -> None:
    """Raises EffconvError where (class logits, box codes) by level of a batch are not the network's.

    It refuses zeros, an image left out, another size or model, another padding, and TF32 or half precision. Where
    those are asked for, rounding is `coarser` times float32's, and so is what is allowed, but never half of the largest
    value: it refuses the first four.
    """
    for image, each in enumerate(work):
        for kind, ours, exact, cost in zip(("class", "box"), found, each.exact, each.costs, strict=True):
            for level, (one, other) in enumerate(zip(ours, exact, strict=True)):
                limit = min(accumulated_limit(coarser * cost), LEAST_WRONG)
                error = output_error(one[image : image + 1], other)
                if not (one.shape[0] == len(work) and error <= limit):
                    raise other_work(
                        name,
                        f"{kind} outputs {level} of image {image + 1} within {limit:.1e} of float64's",
                        f"found {tuple(one.shape)}, {error:.1e}",
                    )


def agreeing(ours: Detections, theirs: Detections) -> float:
    """Share of our detections, (boxes (M, 4), scores, categories), that theirs has too: category and nearly box."""
    (our_boxes, _, our_classes), (their_boxes, _, their_classes) = (
        [np.asarray(column) for column in side] for side in (ours, theirs)
    )
    near = (np.abs(our_boxes[:, None] - their_boxes[None]) < SAME_BOX).all(axis=-1)
    return float((near & (our_classes[:, None] == their_classes[None])).any(axis=1).mean())


def may_differ(
    ours: Detections, outputs: Lists, costs: Sequence[float], detect: Callable[[Lists], Detections]
) -> float:
    """Share of our detections that rounding may replace: twice what moving our own outputs by its cost does at most.

    `detect` makes detections of outputs, `costs` are of classes and boxes. It refuses half of the detections dropped,
    another model's, a smaller image's.
    """
    levels = len(outputs[0])
    flat = [each.numpy() for kind in outputs for each in kind]
    expected = [cost for cost in costs for _ in range(levels)]
    shares = []
    for each in moved(flat, expected):
        tensors = [torch.from_numpy(one) for one in each]
        shares.append(agreeing(ours, detect((tensors[:levels], tensors[levels:]))))
    return min(LOST_FACTOR * (1 - min(shares)), MOST_LOST)


def require_detections(name: str, found: Detections, ours: Detections, allowed: float) -> float:
    """The share of our detections that `found` has too. Raises EffconvError where it is too small, or has too few."""
    counts = [int((np.asarray(side[1]) > 0).sum()) for side in (found, ours)]
    share = agreeing(ours, found) if len(np.asarray(found[0])) else 0.0
    if abs(counts[0] - counts[1]) > allowed * counts[1] or 1 - share > allowed:
        least = f"{counts[1]} detections, {1 - allowed:.0%} of them ours"
        raise other_work(name, least, f"found {counts[0]}, {share:.0%} of them ours")
    return share


def require_pixels(name: str, found: NDArray[np.uint8], expected: NDArray[np.uint8], levels: int) -> None:
    """Raises EffconvError where (H, W, 3) pixels are of another shape or more than `levels` off anywhere."""
    if found.shape != expected.shape:
        raise other_work(name, f"pixels of shape {expected.shape}", f"found {found.shape}")
    gap = int(np.abs(found.astype(np.int16) - expected.astype(np.int16)).max())
    if gap > levels:
        raise other_work(name, f"pixels within {levels} levels", f"found {gap}")
