"""A model to a TFLite file, and that file beside the model: what it finds, and what its precision costs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...convert.apply import apply_inverse
from ...effdet_torch.config import Config
from ...effdet_torch.engines.onnx_detector import Detecting
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.detections import Detections
from ...effdet_torch.postprocessing.postprocess import unclipped
from ...errors import EffconvError
from ..comparison import exported
from ..comparison.exported import ExportCheck, check_found, found_by_model, given_images
from ..plain import Plain
from ..reference.network import import_tensorflow
from ..reference.tflite import OUTPUTS, Suppression, TFLiteDetector, run_tflite
from .description import append_description, described

SAME_OBJECT = 0.5  # overlap of two boxes that are of one object: suppression's, and the lowest that COCO counts
LIKELY = 0.5  # the score from which the model holds an object for more likely than not
# Of the model's likely objects, the part that a file of another precision must find again. More than half is no measure
# of quality, which is for an evaluation to say; it refuses what is another detector: activations whose ranges were
# taken from other images than the file is given, and classes or boxes in another order.
FOUND_AGAIN = 0.5


@dataclass(frozen=True, kw_only=True)
class RoundedCheck(Plain):
    """What came of running a file of another precision, after the same detector was checked in float32."""

    runtime: str
    images: int
    objects: int  # that the model finds on them with a score of LIKELY or more
    found: int  # of those, found by the file, whatever their score: of the category, overlapping by SAME_OBJECT or more
    largest_box_difference: float  # pixels, of objects that both find
    largest_score_difference: float
    ok: bool


@dataclass(frozen=True, kw_only=True)
class TFLiteCheck(Plain):
    """The same detector in float32, and the file itself where its precision is another."""

    exact: ExportCheck
    rounded: RoundedCheck | None = None

    @property
    def ok(self) -> bool:
        """Whether the file is the model."""
        return self.exact.ok and (self.rounded is None or self.rounded.ok)


def official_variables_of(model: EfficientDet) -> dict[str, NDArray[np.float32]]:
    """A model's weights by their official names. Raises EffconvError where the official code has no such model."""
    config = model.config
    if config.zero_padded_pool:
        raise EffconvError(
            f"{config.name}: expected max-pooling as TensorFlow has it, found the one that pads with zeros, which no "
            "TensorFlow network has; export an ONNX graph"
        )
    state = {key: value.detach().cpu().numpy() for key, value in model.state_dict().items()}
    return apply_inverse(state, config, config.name)


def tflite_detector(model: EfficientDet, detecting: Detecting, *, raw: bool = False) -> TFLiteDetector:
    """A model as TensorFlow's converter takes it. Raises EffconvError as `official_variables_of` does."""
    config = dataclasses.replace(model.config, image_size=detecting.size)
    suppression = None if raw else Suppression(detecting.score_threshold, detecting.max_outputs)
    return TFLiteDetector(config, official_variables_of(model), suppression, pixels=detecting.pixels)


def official_images(config: Config, detecting: Detecting, pictures: Sequence[bytes]) -> list[NDArray[Any]]:
    """Encoded pictures, drawn ones where there are none, as a TFLite file takes them: (H, W, 3) each."""
    return channels_last(given_images(config, detecting, pictures), detecting)


def write_tflite(path: Path, content: bytes, model: EfficientDet, detecting: Detecting, precision: str) -> None:
    """Write a converted detector with its description."""
    path.write_bytes(content)
    append_description(path, described(model, detecting, precision))


def check_tflite(
    detector: TFLiteDetector,
    written: bytes,
    precision: str,
    model: EfficientDet,
    detecting: Detecting,
    pictures: Sequence[bytes],
) -> TFLiteCheck:
    """Run a TFLite detector on encoded pictures, drawn ones where there are none, beside the model.

    What is `written` in float32 must find what the model finds. What is written in another precision is rounded: its
    float32 form must, and it itself must find most of it again.
    """
    runtime = runtime_name()
    exact = written if precision == "float32" else detector.convert()

    def find(images: NDArray[Any], content: bytes = exact) -> Detections:
        return found_in(run_tflite(content, channels_last(images, detecting)), detecting)

    checked = check_found(find, runtime, model, detecting, pictures, unclipped)
    if precision == "float32" or not checked.ok:
        return TFLiteCheck(exact=checked)
    images = given_images(model.config, detecting, pictures)
    ours = found_by_model(model, detecting, images, unclipped)
    return TFLiteCheck(exact=checked, rounded=found_again(ours, find(images, written), runtime))


def found_again(ours: Detections, theirs: Detections, runtime: str) -> RoundedCheck:
    """The model's objects beside another precision's: the best first, each paired with what it overlaps most."""
    objects = found = 0
    pixels = scores = 0.0
    for image in range(len(ours.valid)):
        left = set(range(int(theirs.valid[image])))
        likely = int((ours.scores[image, : int(ours.valid[image])] >= LIKELY).sum())
        objects += likely
        for row in range(likely):
            box, category = ours.boxes[image, row], ours.classes[image, row]
            overlaps = {
                each: _overlap(box, theirs.boxes[image, each])
                for each in left
                if theirs.classes[image, each] == category
            }
            pair = max(overlaps, key=overlaps.__getitem__, default=-1)
            if pair < 0 or overlaps[pair] < SAME_OBJECT:
                continue
            left.remove(pair)
            found += 1
            pixels = max(pixels, float((box - theirs.boxes[image, pair]).abs().max()))
            scores = max(scores, float((ours.scores[image, row] - theirs.scores[image, pair]).abs()))
    return RoundedCheck(
        runtime=runtime,
        images=len(ours.valid),
        objects=objects,
        found=found,
        largest_box_difference=pixels,
        largest_score_difference=scores,
        ok=found > FOUND_AGAIN * objects or not objects,
    )


def check_line(check: TFLiteCheck, precision: str) -> str:
    """The check in a line or two."""
    exact = exported.check_line(check.exact)
    if check.rounded is None:
        return exact
    rounded = rounded_line(check.rounded, precision)
    return f"in float32: {exact}\n{rounded}" if check.ok else rounded


def rounded_line(check: RoundedCheck, precision: str) -> str:
    """The check of a file of another precision in a line."""
    again = (
        f"in {precision} the file finds {check.found} of {check.objects} objects of a score of {LIKELY} and more again"
    )
    if not check.ok:
        return f"not the model: {again}, expected more than half; calibrate on other images, or take another precision"
    if not check.objects:
        return f"not proven in {precision}: no picture has an object of a score of {LIKELY}; name pictures that do"
    return (
        f"{again}: boxes to {check.largest_box_difference:.2g} pixels, scores to {check.largest_score_difference:.2g}"
    )


def runtime_name() -> str:
    """What runs a TFLite file. Raises EffconvError without TensorFlow."""
    return f"TFLite of TensorFlow {import_tensorflow().__version__}"


def channels_last(images: NDArray[Any], detecting: Detecting) -> list[NDArray[Any]]:
    """Images as `detecting` has them, as a TFLite file takes them: (H, W, 3) each."""
    return list(images if detecting.pixels else np.ascontiguousarray(images.transpose(0, 2, 3, 1)))


def found_in(outputs: Sequence[dict[str, NDArray[Any]]], detecting: Detecting) -> Detections:
    """What a TFLite file found, image by image: boxes in input pixels, categories from 1."""
    columns = (np.concatenate([each[name] for each in outputs]) for name in OUTPUTS)
    boxes, classes, scores, count = (torch.from_numpy(each) for each in columns)
    sides = torch.tensor([*detecting.size, *detecting.size], dtype=torch.float32)
    return Detections(boxes * sides, scores, classes.long() + 1, count.long())


def _overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
    common = (high - low).clamp(min=0).prod()
    together = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - common
    return float(common / together) if together > 0 else 0.0
