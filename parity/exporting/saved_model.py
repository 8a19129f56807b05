"""A model to a TensorFlow SavedModel, and that folder beside the model it was made from."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ...convert.output_kinds import SERVED_DESCRIPTION
from ...effdet_torch.engines.onnx_detector import Detecting
from ...effdet_torch.model import EfficientDet
from ...effdet_torch.postprocessing.detections import Detections
from ..comparison.exported import ExportCheck, check_found
from ..reference.network import import_tensorflow
from ..reference.saved_model import ServedDetector, saved_model_runner
from ..reference.tflite import Suppression
from .description import described
from .tflite import official_variables_of

Run = Callable[[NDArray[Any]], list[NDArray[Any]]]  # a SavedModel's outputs of a batch


def served_detector(model: EfficientDet, detecting: Detecting, *, raw: bool = False) -> ServedDetector:
    """A model as TensorFlow saves it. Raises EffconvError as `official_variables_of` does."""
    config = dataclasses.replace(model.config, image_size=detecting.size)
    suppression = None if raw else Suppression(detecting.score_threshold, detecting.max_outputs)
    return ServedDetector(config, official_variables_of(model), suppression, pixels=detecting.pixels)


def write_saved_model(folder: Path, detector: ServedDetector, model: EfficientDet, detecting: Detecting) -> None:
    """Save a detector into a folder, with its description where TensorFlow keeps files that it does not read itself."""
    detector.save(folder)
    description = folder / SERVED_DESCRIPTION
    description.parent.mkdir(exist_ok=True)
    description.write_text(described(model, detecting), encoding="utf-8")


def check_saved_model(
    folder: Path, model: EfficientDet, detecting: Detecting, pictures: Sequence[bytes]
) -> ExportCheck:
    """Load a SavedModel and run it on encoded pictures, drawn ones where there are none, beside the model.

    Raises ImageError for a picture that cannot be decoded.
    """

    run = saved_model_runner(folder)

    def find(images: NDArray[Any]) -> Detections:
        return found_by_saved_model(run, images, detecting)

    return check_found(find, f"TensorFlow {import_tensorflow().__version__}", model, detecting, pictures)


def official_batch(images: NDArray[Any], detecting: Detecting) -> NDArray[Any]:
    """Images as `detecting` has them, as a SavedModel takes them: (B, H, W, 3)."""
    return images if detecting.pixels else images.transpose(0, 2, 3, 1)


def found_by_saved_model(run: Run, images: NDArray[Any], detecting: Detecting) -> Detections:
    """What a detector's SavedModel finds on images as `detecting` has them, in input pixels."""
    boxes, scores, classes, number = (torch.from_numpy(each) for each in run(official_batch(images, detecting)))
    return Detections(boxes, scores, classes.long(), number.long())
