"""The same images through the official pipeline in TensorFlow and through effconv, compared at every stage.

Stages: the input tensor, the layers by themselves, the network's raw outputs, the candidates decoded from outputs,
their scores, the final detections. From the candidates on all are compared twice. Fed with the same outputs both
sides must agree (local): in every bit, the scores to SCORE_ULPS. Fed with their own, whose last bits differ, a list
may come out in another order where two scores are nearer than rounding; each image where it does is explained by
measurement (`moved_outputs.py`) or fails.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...convert.layers import layers
from ...effdet_torch.config import Config
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.candidates import flatten_levels
from ...effdet_torch.postprocessing.detections import found
from ...effdet_torch.postprocessing.eigen import sigmoid_halved
from ...effdet_torch.postprocessing.postprocess import Postprocessor
from ..difference import fault_of, largest, relative_error
from ..evaluation.pipeline import Pipeline
from ..limits import FLOAT64_LIMIT, accumulated_limit
from ..reference.network import OfficialNetwork, import_tensorflow
from ..reference.pipeline import (
    OfficialCandidates,
    OfficialDetections,
    official_candidates,
    official_detections,
    official_input,
)
from ..traces.candidate import Lockstep
from .compare import precisions
from .end_to_end_stages import (
    STAGES,
    Measured,
    Stage,
    candidates_stage,
    detections_stage,
    input_stage,
    lists_stage,
    outputs_stage,
    scores_stage,
)
from .moved_outputs import Outputs, explanation
from .pairing import Pairing, pair_detections
from .soundness import sound_layers

# A score's largest slope over its logit is a quarter; suppression multiplies it by overlaps' factors, which move with
# the boxes. Of objects matched one to one in the same order it refuses scores that are 10 % off.
SCORE_FACTOR = 16.0


class ImageResult(NamedTuple):
    """One image's stages, and how its final lists compare: "identical", "explained" or "unexplained"."""

    image: str
    stages: list[Stage]
    lists: str
    pairing: Pairing
    official: OfficialDetections  # arrays, without the rows of zeros
    ours: OfficialDetections
    score_limit: float  # of the difference within a pair, by which the lists were judged

    @property
    def holds(self) -> bool:
        """Whether every stage does."""
        return all(stage.holds for stage in self.stages)


class BothSides:
    """The official network in TensorFlow and ours, to be run on image after image of one size.

    The first image sets what rounding is expected to cost each output, and is looked at in float64 and layer by layer.
    """

    def __init__(self, config: Config, variables: Mapping[str, NDArray[np.float32]], model: EfficientDet):
        self.config = config
        self.official = {kind: OfficialNetwork(config, variables, kind) for kind in ("float32", "float64")}
        self.ours = precisions(model)
        self.expected: list[float] = []  # by output, relative to its largest; of a head, the largest of its levels

    def official_outputs(self, image: NDArray[np.float32], precision: str = "float32") -> Outputs:
        """TensorFlow's raw outputs of an input (1, H, W, 3)."""
        tf, network = import_tensorflow(), self.official[precision]
        for _ in network.run(tf.constant(image.astype(precision))):
            pass
        return [np.asarray(output.numpy()) for output in network.outputs.values()]

    def our_outputs(self, image: NDArray[np.float32], network: EfficientDet | None = None) -> Outputs:
        """Ours, in the same layout."""
        network = network or self.ours.single
        parameter = next(network.parameters())
        with torch.inference_mode():
            given = torch.from_numpy(image.transpose(0, 3, 1, 2).copy()).to(parameter.device, parameter.dtype)
            levels = network(given)
        return [each.permute(0, 2, 3, 1).cpu().numpy() for kind in levels for each in kind]

    def look_closer(self, image: NDArray[np.float32]) -> Stage:
        """The network on one image in float64 beside TensorFlow's, and each of its layers' float32 beside its
        float64."""
        images = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
        exact = self.official_outputs(image, "float64")
        wide = self.our_outputs(image, self.ours.double)
        self.expected = self._expected(images, wide)
        names, worst = list(self.official["float64"].outputs), 0.0
        what = "of an output's largest value, in float64"
        for name, ours, theirs in zip(names, wide, exact, strict=True):
            error = math.inf if fault_of(ours, "") else relative_error(ours, theirs, largest(theirs))
            if not error <= FLOAT64_LIMIT:
                text = f"{name} differs in float64 by {error:.1e}: `effconv parity` names the layer"
                return Stage(STAGES[1], False, text, Measured(error, FLOAT64_LIMIT, what))
            worst = max(worst, error)
        count, measured = 0, Measured(worst, FLOAT64_LIMIT, what)
        for key, _, sound in sound_layers(self.ours.single, self.ours.double, images):
            count += 1
            if not sound.ok:
                return Stage(STAGES[1], False, f"{key}: its {sound.reason}")
        text = f"{count} layers sound by themselves, outputs in float64 equal to {FLOAT64_LIMIT:.0e}"
        return Stage(STAGES[1], True, text, measured)

    def _expected(self, images: NDArray[np.float32], exact: Outputs) -> list[float]:
        """What rounding every layer once costs each output, beside our own in float64."""
        table = layers(self.config)
        run = Lockstep(self.ours.rounded, images, table, rounding=torch.float32)
        outputs = [layer.key for layer in table if layer.module in ("class_head.predict", "box_head.predict")]
        try:
            found = [run.at(key) for key in outputs]
        finally:
            run.close()
        pairs = zip(found, exact, strict=True)
        costs = [0.0 if one is None else relative_error(one, other, largest(other)) for one, other in pairs]
        half = len(costs) // 2
        return [max(costs[:half])] * half + [max(costs[half:])] * half


def compare_image(
    encoded: bytes, name: str, sides: BothSides, pipeline: Pipeline, *, closer: bool = True
) -> ImageResult:
    """Every stage of one image; the layers where `closer`. Raises ImageError for an image neither side can be run
    on."""
    config = sides.config
    image, scale = pipeline.preprocess(encoded, name=name)
    official_image, official_scale = (each.numpy() for each in official_input(encoded, config))
    official_image = official_image[None]
    image = image.transpose(1, 2, 0)[None]
    stages = [input_stage(image, scale, official_image, official_scale)]
    if closer:
        stages.append(sides.look_closer(official_image))
    official, ours = sides.official_outputs(official_image), sides.our_outputs(official_image)
    stages.append(outputs_stage(ours, official, sides.expected))
    candidates = _official_candidates(official, config)
    # TensorFlow of today computes the sigmoid otherwise than that of the official records.
    same_sigmoid = dataclasses.replace(pipeline.postprocess, sigmoid=sigmoid_halved)
    stages.append(candidates_stage(_candidates(same_sigmoid, official), candidates))
    stages.append(scores_stage(_candidates(pipeline.postprocess, official), candidates))
    reference = _official_detections(candidates, official_scale, config)
    stages.append(detections_stage(_detections(same_sigmoid, official, scale), reference))
    if not stages[0].holds:
        ours = sides.our_outputs(image)
    found_by_us = _detections(pipeline.postprocess, ours, scale)
    pairing = _pair(reference, found_by_us)

    def paired_anew(outputs: Outputs) -> Pairing:
        return _pair(reference, _official_detections(_official_candidates(outputs, config), official_scale, config))

    # Rounding explains nothing where something else is wrong already.
    trial = paired_anew if all(stage.holds for stage in stages) else None
    half = len(official) // 2
    costs = zip(official[:half], sides.expected[:half], strict=True)
    score_gap = SCORE_FACTOR * max(largest(each) * accumulated_limit(cost) for each, cost in costs) / 4
    explained = explanation(pairing, score_gap, official, sides.expected, trial)
    stages.append(lists_stage(pairing, explained))
    return ImageResult(name, stages, explained.lists, pairing, reference, found_by_us, explained.score_limit)


def compare_images(
    images: Iterable[tuple[str, bytes]],
    sides: BothSides,
    pipeline: Pipeline,
    report: Callable[[int], None] | None = None,
) -> list[ImageResult]:
    """Every image in turn, the first of them layer by layer too; `report(done)` counts them."""
    results: list[ImageResult] = []
    for name, encoded in images:
        results.append(compare_image(encoded, name, sides, pipeline, closer=not results))
        if report:
            report(len(results))
    return results


def _official_candidates(outputs: Outputs, config: Config) -> OfficialCandidates:
    levels = len(config.levels)
    candidates = official_candidates(outputs[:levels], outputs[levels:], config)
    return OfficialCandidates(*(column.numpy() for column in candidates))


def _official_detections(candidates: OfficialCandidates, scale: np.float32, config: Config) -> OfficialDetections:
    """TensorFlow's, without the rows of zeros."""
    boxes, scores, categories = (
        column.numpy() for column in official_detections(candidates, scale, config.num_classes)
    )
    there = scores > 0
    return OfficialDetections(boxes[there], scores[there], categories[there])


def _candidates(postprocess: Postprocessor, outputs: Outputs) -> OfficialCandidates:
    """Ours, of raw outputs, in the reference's form."""
    classes, codes = _levels(outputs)
    decoded = postprocess.decoded(flatten_levels(classes, postprocess.config.num_classes), flatten_levels(codes, 4))
    boxes = decoded.boxes[0][decoded.box_of[0]]
    return OfficialCandidates(boxes.numpy(), decoded.scores[0].numpy(), decoded.classes[0].numpy())


def _detections(postprocess: Postprocessor, outputs: Outputs, scale: np.float32) -> OfficialDetections:
    detections = found(postprocess(*_levels(outputs), torch.tensor([scale])), 0)
    return OfficialDetections(detections.boxes[0].numpy(), detections.scores[0].numpy(), detections.classes[0].numpy())


def _levels(outputs: Outputs) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    tensors = [torch.from_numpy(np.ascontiguousarray(each.transpose(0, 3, 1, 2))) for each in outputs]
    half = len(tensors) // 2
    return tensors[:half], tensors[half:]


def _pair(reference: OfficialDetections, ours: OfficialDetections) -> Pairing:
    first, second = ((side.boxes, side.scores, side.categories) for side in (reference, ours))
    return pair_detections(*first, *second)
