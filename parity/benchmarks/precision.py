"""One engine and precision beside float32 eager on the same pictures: error, AP, and time."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...effdet_torch.preprocessing.decode import read_encoded
from ...strict_json import finite
from ..ablation.bootstrap import metrics_of
from ..ablation.matches import Matches, match_detections
from ..ablation.significance import paired
from ..comparison.engine import output_error
from ..datasets.dataset import Dataset, Image
from ..evaluation.coco import METRICS, Rows
from ..evaluation.detect import found_rows
from ..evaluation.pipeline import Pipeline
from .precision_forms import Form, Made, Outputs
from .precision_record import Change, PrecisionRow

WARM_UP = 10  # calls before those that count
SEED = 0  # of the resamples


class Pictures(NamedTuple):
    """A dataset's pictures as the network takes them."""

    dataset: Dataset
    images: Sequence[Image]
    inputs: Tensor  # (N, 3, H, W) float32
    scales: Tensor  # (N,) original pixels per input pixel


class Found(NamedTuple):
    """What a form makes of the pictures."""

    outputs: Outputs  # of all pictures, (N, channels, h, w) each
    matches: Matches
    milliseconds: float  # median of the pictures, of the network alone


def prepared(dataset: Dataset, pipeline: Pipeline) -> Pictures:
    """All pictures of a dataset. Raises ImageError for one that cannot be read."""
    made = [pipeline.preprocess(read_encoded(image.path), name=str(image.path)) for image in dataset.images]
    inputs, scales = (np.stack([np.asarray(each[place], np.float32) for each in made]) for place in (0, 1))
    return Pictures(dataset, dataset.images, torch.from_numpy(inputs), torch.from_numpy(scales))


def find(run: Callable[[Tensor], Outputs], pictures: Pictures, pipeline: Pipeline) -> Found:
    """Run a network on one picture after another, and match what it detects with the true boxes."""
    for _ in range(WARM_UP):
        run(pictures.inputs[:1])
    outputs: list[Outputs] = []
    seconds: list[float] = []
    for place in range(len(pictures.inputs)):
        one = pictures.inputs[place : place + 1]
        started = time.perf_counter()
        outputs.append(run(one))
        seconds.append(time.perf_counter() - started)
    rows: list[Rows] = []
    for image, scale, (logits, codes) in zip(pictures.images, pictures.scales, outputs, strict=True):
        detected, _ = found_rows(pipeline.postprocess(logits, codes, scale[None]), 0)
        rows.append(np.column_stack([np.full(len(detected), image.id), detected.astype(np.float64)]))
    matches = match_detections(pictures.dataset, np.concatenate(rows), pictures.images)
    logits, codes = (
        [torch.cat(level) for level in zip(*(each[kind] for each in outputs), strict=True)] for kind in (0, 1)
    )
    return Found((logits, codes), matches, 1000 * statistics.median(seconds))


def largest_errors(found: Outputs, expected: Outputs) -> tuple[float, float]:
    """(of class logits, of box codes): the largest of a level's errors, each relative to its largest expected value."""
    class_error, box_error = (
        max(output_error(one, other) for one, other in zip(ours, theirs, strict=True))
        for ours, theirs in zip(found, expected, strict=True)
    )
    return class_error, box_error


def precision_row(form: Form, made: Made, found: Found, baseline: Found) -> PrecisionRow:
    """The row of a form, of what it found and what float32 eager found."""
    class_error, box_error = largest_errors(found.outputs, baseline.outputs)
    change = paired(found.matches, baseline.matches, SEED)["AP"]
    return PrecisionRow(
        engine=form.engine,
        precision=form.precision,
        scales=form.scales,
        file_bytes=made.file_bytes,
        class_error=finite(class_error),
        box_error=finite(box_error),
        ap=float(metrics_of(found.matches)[0, METRICS.index("AP")]),
        change=Change(difference=change.difference, low=change.low, high=change.high, verdict=change.verdict),
        milliseconds=found.milliseconds,
    )
