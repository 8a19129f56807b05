"""Whether the contestants of `effconv bench predict` find what ours finds, or do all of their own work."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.postprocess import per_class
from ...effdet_torch.preprocessing.preprocess import Preprocessor
from ...errors import EffconvError
from ..reference.pipeline import DETECTIONS
from .equal_work import (
    Detections,
    Lists,
    may_differ,
    other_work,
    require_detections,
    require_outputs,
    work_of,
)

Step = Callable[[Sequence[bytes]], Any]  # encoded images of one batch to detections


Each = TypeVar("Each")


class Expected(NamedTuple):
    """Our model's detections of one image, and which share of them rounding may replace."""

    detections: Detections
    allowed: float


def in_batches(given: Sequence[Each], batch: int) -> list[Sequence[Each]]:
    """So many at a time; the last may have fewer."""
    return [given[start : start + batch] for start in range(0, len(given), batch)]


def require_whole_batches(images: int, batches: Sequence[int]) -> None:
    """Raises EffconvError for a batch size in which so many images leave a rest, which would count as a whole one."""
    for batch in batches:
        if images % batch:
            raise EffconvError(
                f"{images} images make no whole batches of {batch}: take a multiple of {batch} images",
                parameters={"limit": str(batch), "batch": None},
            )


def expected_lists(model: EfficientDet, images: Sequence[bytes]) -> list[Expected]:
    """What contestants of our own have to find in each image: `model` as it is written, an image at a time."""
    preprocess, postprocess = Preprocessor(model.config), per_class(model.config)
    found = []
    for encoded in images:
        image, scale = preprocess(encoded)
        given, scales = torch.from_numpy(image)[None], torch.tensor([float(scale)])

        def listed(outputs: Lists, scales: Tensor = scales) -> Detections:
            return _row(postprocess(*outputs, scales), 0)

        with torch.inference_mode():
            outputs = model(given)
            ours = listed(outputs)
            found.append(Expected(ours, may_differ(ours, outputs, work_of(model, given)[0].costs, listed)))
    return found


def require_ours(steps: Mapping[str, Step], expected: Sequence[Expected], images: Sequence[bytes], batch: int) -> None:
    """Raises EffconvError where a contestant's detections of an image are none that rounding makes of our model's."""
    for name, step in steps.items():
        for given, lists in zip(in_batches(images, batch), in_batches(expected, batch), strict=True):
            found = step(given)
            if len(found.boxes) != batch:
                raise other_work(name, f"detections of {batch} images", f"found those of {len(found.boxes)}")
            for row, (detections, allowed) in enumerate(lists):
                require_detections(name, _row(found, row), detections, allowed)


def require_network(name: str, peer: nn.Module, model: EfficientDet, images: Sequence[bytes]) -> None:
    """Raises EffconvError where a peer's network is not the model, on each image.

    Its lists are not compared with ours: it resizes and suppresses otherwise, which is what is being shown.
    """
    size, preprocess = model.config.image_size, Preprocessor(model.config)
    theirs = tuple(getattr(peer.config, "image_size", ()))
    if theirs != tuple(size):
        raise other_work(name, f"images of {size}", f"found {theirs}")
    for encoded in images:
        given = torch.from_numpy(preprocess(encoded)[0])[None]
        with torch.inference_mode():
            outputs = peer(given)
        require_outputs(name, outputs, work_of(model, given))


def require_full_lists(steps: Mapping[str, Step], images: Sequence[bytes], batch: int) -> None:
    """Raises EffconvError where a peer gives less than its full list of each image of a batch."""
    for name, step in steps.items():
        for number, given in enumerate(in_batches(images, batch), 1):
            shape = tuple(step(given).shape)
            if shape[:2] != (batch, DETECTIONS):
                expected = f"{DETECTIONS} detections of each image of batch {number}"
                raise other_work(name, expected, f"found shape {shape}")


def _row(found: Any, row: int) -> Detections:
    return [column[row].cpu() for column in (found.boxes, found.scores, found.classes)]
